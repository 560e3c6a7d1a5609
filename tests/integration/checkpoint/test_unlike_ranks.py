"""State dicts that are not alike on all ranks: refused on all of them, or never a mixture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.checkpoint.ranks import Ranks

SCENES = "tests.integration.checkpoint.state_scenes"
PATIENCE = 60.0
"""Seconds in which all ranks have to hear of one's fault; a collective would wait for 1800."""


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    with Ranks(3) as started:
        yield started


@pytest.mark.parametrize("kind", ["a set", "a sparse tensor", "strings", "a key", "no values"])
def test_what_one_rank_can_not_save_is_told_to_all(ranks: Ranks, tmp_path: Path, kind: str) -> None:
    answers = ranks.run(f"{SCENES}:save_with_one_odd", 2, directory=str(tmp_path / "c"), kind=kind)
    assert [answer[0] for answer in answers] == ["CheckpointError"] * 2
    assert answers[0][1] == answers[1][1] != ""
    assert all(answer[2] < PATIENCE for answer in answers)


def test_a_version_that_is_none_is_told_to_all(ranks: Ranks, tmp_path: Path) -> None:
    answers = ranks.run(f"{SCENES}:save_with_an_odd_version", 2, directory=str(tmp_path / "c"))
    assert [answer[0] for answer in answers] == ["CheckpointError"] * 2
    assert all("and not -1" in answer[1] for answer in answers)


def test_what_one_rank_can_not_fill_is_told_to_all(ranks: Ranks, tmp_path: Path) -> None:
    answers = ranks.run(f"{SCENES}:load_with_one_odd", 2, directory=str(tmp_path / "c"))
    assert [answer[0] for answer in answers] == ["CheckpointError"] * 2
    assert all("'w' has several elements" in answer[1] for answer in answers)


def test_of_what_differs_one_ranks_is_taken_whole(ranks: Ranks, tmp_path: Path) -> None:
    answers = ranks.run(f"{SCENES}:differ", 3, directory=str(tmp_path / "c"))
    assert answers == [[0, [0.0], [0], [1.0]]] * 3


@pytest.mark.parametrize("world", [1, 2, 3])
def test_what_is_a_ranks_own_comes_back_to_it(ranks: Ranks, tmp_path: Path, world: int) -> None:
    directory = str(tmp_path / "c")
    drawn = ranks.run(f"{SCENES}:save_own", 2, directory=directory)
    assert drawn[0] != drawn[1]
    found = ranks.run(f"{SCENES}:load_own", world, directory=directory)
    for rank, answer in enumerate(found[:2]):
        assert answer == [*drawn[rank], {"file": f"part-{rank}"}, []]
    for rank, answer in enumerate(found[2:], 2):
        assert answer[2] == {}, "a rank that was not there keeps what it has"
        own = [f"own/~r{rank}/{name}" for name in ("torch", "python", "place")]
        assert answer[3] == own
