"""A save is killed, or refused, at each of its file operations in turn.

1. Version 1 is committed.
2. A process saves version 2; at its nth file operation it is killed (amid the write, when that
   is what it does), or the disk is full.
3. The next start finds a whole checkpoint, the newest that was committed, and can save.
4. n grows until the save gets through.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.chaos.checkpoint.faults import (
    FINISHED,
    SURVIVED,
    Faults,
    full,
    in_child,
    kill,
    settled,
)
from trainer.checkpoint import Checkpointer
from trainer.checkpoint.keep import Keep
from trainer.checkpoint.writer import save_staged
from trainer.errors import CheckpointError

pytestmark = pytest.mark.slow
FAILED = 3


def one_rank(directory: Path, generation: int, **options: object) -> Checkpointer:
    return Checkpointer(
        directory / "checkpoints",
        identity={},
        rank=0,
        world_size=1,
        generation=generation,
        execution="run",
        keep=Keep(keep=1),
        **options,
    )


def state(version: int) -> dict[str, torch.Tensor]:
    return {"a": torch.full((4000,), float(version)), "b": torch.tensor(version)}


def is_whole(directory: Path, generation: int) -> int:
    """Load; the version found, whose every value must be that version's."""
    checkpointer = one_rank(directory, generation)
    found = state(0)
    loaded = checkpointer.load(found)
    assert loaded is not None
    assert loaded.damaged == ()
    assert loaded.values == {"version": loaded.version}
    for name, tensor in state(loaded.version).items():
        assert torch.equal(found[name], tensor), name
    return loaded.version


@pytest.fixture
def room() -> Iterator[Callable[[], Path]]:
    """A fresh directory with version 1 in it, each time; in memory, where a sync is quick."""
    base = Path(tempfile.mkdtemp(prefix="remesh-test-", dir="/dev/shm"))
    one_rank(base / "first", 1).save(1, state(1), {"version": 1})

    def fresh() -> Path:
        shutil.rmtree(base / "room", ignore_errors=True)
        shutil.copytree(base / "first", base / "room")
        return base / "room"

    yield fresh
    shutil.rmtree(base)


def save_directly(directory: Path) -> None:
    try:
        one_rank(directory, 2).save(2, state(2), {"version": 2})
    except CheckpointError:
        os._exit(FAILED)


@pytest.mark.parametrize("strike", [kill, full])
def test_a_save(room: Callable[[], Path], strike: Callable[[str], None]) -> None:
    at, versions = 0, []
    while True:
        at += 1
        directory = room()
        code = in_child(lambda directory=directory: save_directly(directory), Faults(at, strike))
        assert code in (FINISHED, SURVIVED, FAILED, -signal.SIGKILL)
        versions.append(is_whole(directory, 3))
        if code in (FINISHED, SURVIVED):
            assert versions[-1] == 2
        one_rank(directory, 4).save(5, state(5), {"version": 5})
        assert is_whole(directory, 5) == 5
        if code == FINISHED:
            break
    assert strike is full or versions == sorted(versions), "once committed, it stays"
    assert at > 15


@pytest.mark.parametrize("strike", [kill, full])
def test_the_agents_part_of_a_staged_save(
    room: Callable[[], Path], strike: Callable[[str], None]
) -> None:
    at, versions = 0, []
    while True:
        at += 1
        directory = room()
        staging = directory / "slot"
        worker = one_rank(directory, 2, staging=staging)
        staged = worker.stage(2, state(2), {"version": 2})
        assert staged is not None
        description = staged.wait()

        def write(description: Path = description) -> None:
            if save_staged(description).error is not None:
                os._exit(FAILED)

        code = in_child(write, Faults(at, strike))
        assert code in (FINISHED, SURVIVED, FAILED, -signal.SIGKILL)
        if code == FAILED:
            assert worker.drain(timeout=5), "a save that failed leaves the slot free"
        elif code < 0 and not worker.drain(timeout=0):
            assert save_staged(description).error is None, "another agent can write the slot"
            assert is_whole(directory, 3) == 2
            continue
        versions.append(is_whole(directory, 3))
        if code == FINISHED:
            break
    assert strike is full or versions == sorted(versions)
    assert versions[-1] == 2


def test_a_worker_killed_while_it_stages_leaves_no_whole_slot_and_no_save(
    room: Callable[[], Path],
) -> None:
    at = 0
    while True:
        at += 1
        directory = room()
        staging = directory / "slot"

        def stage(directory: Path = directory, staging: Path = staging) -> None:
            staged = one_rank(directory, 2, staging=staging).stage(2, state(2), {"version": 2})
            assert staged is not None
            staged.wait()

        code = in_child(stage, Faults(at, kill))
        if (staging / "0.json").exists():
            outcome = save_staged(staging / "0.json")
            assert outcome.error is None
            assert is_whole(directory, 3) == 2
        else:
            assert code == -signal.SIGKILL
            assert is_whole(directory, 3) == 1
        if code == FINISHED:
            break


def test_the_disk_is_full_for_a_while(room: Callable[[], Path]) -> None:
    directory = room()

    def save_twice() -> None:
        checkpointer = one_rank(directory, 2)
        try:
            checkpointer.save(2, state(2), {"version": 2})
        except CheckpointError as error:
            if "No space left" not in str(error):
                os._exit(FAILED)
            checkpointer.save(3, state(3), {"version": 3})
            return
        os._exit(FAILED)

    # Late enough that opening the log succeeds, early enough that the commit has not come.
    assert in_child(save_twice, Faults(14, full)) == SURVIVED
    assert is_whole(directory, 3) == 3
    assert len(settled(directory / "checkpoints")) <= 2
