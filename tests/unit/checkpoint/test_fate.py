"""What becomes of a save whose parts several ranks write: a table."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.checkpoint.fate import Commit, End, Parts, Wait, fate


def parts(there: set[int], **more: Any) -> Parts:
    known: dict[str, Any] = {"version": 8, "patience": 600.0, "turn": 30.0}
    return Parts(writers={0, 1, 2}, there=there, **{**known, **more})


ALL = {0, 1, 2}


@pytest.mark.parametrize(
    ("known", "found"),
    [
        (parts({0}), Wait()),
        (parts({0}, waited=600.0), Wait()),
        (parts(ALL), Commit()),
        # In turn: an earlier save may still be committed before, but not for ever.
        (parts(ALL, earlier=True), Wait()),
        (parts(ALL, earlier=True, whole_for=30.0), Commit()),
        (parts(ALL, earlier=True, given_up=True), Commit()),
        (parts(ALL, earlier=True, overtaken=True), Commit()),
        # A part that was written counts, whatever became of its rank.
        (parts(ALL, failed={1: "rank 1 can't write"}), Commit()),
        (parts(ALL, newest=9), Commit()),
    ],
)
def test_a_save_waits_or_is_committed(known: Parts, found: object) -> None:
    assert fate(known) == found


@pytest.mark.parametrize(
    ("known", "reason", "for_good"),
    [
        (parts({0, 2}, failed={1: "node b was lost"}), "node b was lost", True),
        (parts({0}, failed={1: "full", 2: "full too"}), "full; full too", True),
        (
            parts({0, 1}, newest=9),
            "no part came from rank 2 before version 9 was committed",
            True,
        ),
        # Nobody knows that these never come: whoever opens the directory next may find them.
        (parts({0}, waited=600.1), "no part came from rank 1, 2", False),
        (parts({0}, given_up=True), "no part came from rank 1, 2", False),
        (parts({0}, overtaken=True), "no part came from rank 1, 2", False),
    ],
)
def test_a_save_ends_as_soon_as_nothing_will_come_of_it(
    known: Parts, reason: str, for_good: bool
) -> None:
    assert fate(known) == End(reason, for_good)


def test_of_many_missing_ranks_a_few_are_named() -> None:
    known = Parts(version=1, writers=set(range(4096)), there=set(), given_up=True)
    found = fate(known)
    assert isinstance(found, End)
    assert found.reason == "no part came from rank 0, 1, 2, 3, 4, 5, 6, 7 …"
