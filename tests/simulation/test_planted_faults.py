"""Faults planted into the code under test: a simulation that misses them would prove little."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from rendezvous.membership import NewLeader, arrivals
from rendezvous.service.actions import Write as StoreWrite
from rendezvous.service.keeper import Keeper
from rendezvous.service.records import LEADER
from rendezvous.store import Guard, Write
from tests.simulation.history import History
from tests.simulation.stores import Database

TRIES = 40


def finds(words: str) -> None:
    """One of the first histories fails, and says so."""
    complaints = (complaint for seed in range(TRIES) if (complaint := play(seed)))
    first = next(complaints, None)
    assert first is not None, f"{TRIES} histories, and the fault was not found"
    assert words in first


def play(seed: int) -> str:
    history = History(seed=seed, control_plane_only=seed % 3 == 0)
    try:
        history.run()
    except AssertionError as error:
        return str(error) or "an assertion failed"
    return ""


def test_agents_are_told_before_the_store_knows(monkeypatch):
    advance = Keeper._advance

    def hasty(self: Keeper) -> None:
        for action in self._waiting:
            if not isinstance(action, StoreWrite):
                self._speak(action)
        self._waiting = deque(a for a in self._waiting if isinstance(a, StoreWrite))
        advance(self)

    monkeypatch.setattr(Keeper, "_advance", hasty)
    finds("was told before it was stored")


def test_a_new_leader_without_patience(monkeypatch):
    miss = arrivals.miss

    def impatient(job: Any) -> None:
        for name in list(job.absent):
            arrivals.remove(job, name, "not here yet")
        miss(job)

    monkeypatch.setattr(arrivals, "miss", impatient)
    finds("moved the members")


def test_a_new_leader_that_does_not_read_the_store(monkeypatch):
    restore = arrivals.restore
    monkeypatch.setattr(arrivals, "restore", lambda job, _: restore(job, NewLeader(record=None)))
    finds("")


def test_writes_without_a_fence(monkeypatch):
    """Neither by the election key's create revision, nor by the fence's last one and its lease."""
    txn = Database.txn

    async def open_door(
        self: Database, guards: Sequence[Guard], writes: Sequence[Write], *, author: str
    ) -> int | None:
        if any(write.key.endswith("/job") for write in writes):
            guards = [guard for guard in guards if not guard.key.startswith(LEADER)]
            writes = [write for write in writes if not write.key.startswith(LEADER)]
        return await txn(self, guards, writes, author=author)

    monkeypatch.setattr(Database, "txn", open_door)
    finds("wrote a record while")
