"""Which rank the environment names, generation after generation."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from trainer.rank_environment import OTHER_LAUNCHERS, VARIABLES, without_position
from trainer.worker.environment import position_in, take_position
from trainer.worker.inbox import Enter


def order(
    rank: int, slots: Sequence[int], *, group_rank: int, local_rank: int, **fields: object
) -> Enter:
    members = [[f"node{i}", count, "10.0.0.1"] for i, count in enumerate(slots)]
    return Enter(
        {
            "generation": 1,
            "rank": rank,
            "local_rank": local_rank,
            "group_rank": group_rank,
            "world_size": sum(slots),
            "local_world_size": slots[group_rank],
            "store": "10.0.0.7:1234",
            "members": members,
            "restarts": 2,
            "max_restarts": 9,
            "execution": "run",
            "error_file": "/tmp/error.json",
        }
        | fields,
        None,
    )


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "stale")


def test_all_of_torchruns_variables_are_set() -> None:
    take_position(order(5, (2, 4, 2), group_rank=1, local_rank=3), range(8))
    assert {name: os.environ[name] for name in VARIABLES} == {
        "RANK": "5",
        "LOCAL_RANK": "3",
        "GROUP_RANK": "1",
        "ROLE_RANK": "5",
        "ROLE_NAME": "default",
        "WORLD_SIZE": "8",
        "LOCAL_WORLD_SIZE": "4",
        "GROUP_WORLD_SIZE": "3",
        "ROLE_WORLD_SIZE": "8",
        "MASTER_ADDR": "10.0.0.7",
        "MASTER_PORT": "1234",
        "TORCHELASTIC_RESTART_COUNT": "2",
        "TORCHELASTIC_MAX_RESTARTS": "9",
        "TORCHELASTIC_RUN_ID": "run",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_ERROR_FILE": "/tmp/error.json",
    }


def test_a_smaller_generation_leaves_nothing_of_the_larger_one() -> None:
    take_position(order(5, (2, 4, 2), group_rank=1, local_rank=3), range(8))
    take_position(order(0, (1,), group_rank=0, local_rank=0, store="[::1]:80"), range(1))
    found = {name: os.environ[name] for name in VARIABLES}
    assert {found[name] for name in found if name.endswith("WORLD_SIZE")} == {"1"}
    assert {found[name] for name in found if name.endswith("RANK")} == {"0"}
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("::1", "80")


def test_a_spared_rank_is_nobody() -> None:
    take_position(order(2, (3,), group_rank=0, local_rank=2), (0, 1))
    assert not VARIABLES & os.environ.keys()


def test_spared_ranks_are_not_counted() -> None:
    # Three nodes of 3, 1 and 5 slots; tensor groups of two: one slot of each is spared.
    ranks = (0, 1, 4, 5, 6, 7)
    position = position_in(order(6, (3, 1, 5), group_rank=2, local_rank=2), ranks)
    assert (position.rank, position.world_size) == (4, 6)
    assert (position.local_rank, position.local_world_size) == (2, 4)
    assert (position.group_rank, position.group_world_size) == (1, 2)


def test_nothing_of_another_launcher_gets_through() -> None:
    shell = dict.fromkeys(VARIABLES | OTHER_LAUNCHERS, "7")
    kept = {"HOME": "/h", "SLURM_JOB_ID": "12", "WORLD_SIZES": "3"}
    assert without_position(shell | kept) == kept
