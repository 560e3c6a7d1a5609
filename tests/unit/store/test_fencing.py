"""A leader's writes over a bad wire: each is made once, or not at all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rendezvous.errors import Deposed, OutcomeUnknown, StoreUnavailable
from rendezvous.store import Changes, Guard, MemoryStore, Put, Write, elect
from tests.virtual_time import run

TTL = 5.0


class BadWire(MemoryStore):
    """A transaction may be unsent, lost, made without an answer, or made late."""

    def __init__(self, fates: random.Random) -> None:
        super().__init__()
        self.fates = fates
        self.bad = False
        self.dead = False
        self.late: list[asyncio.Task[int | None]] = []

    async def txn(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        fate = self.fates.choice(["done", "unsent", "lost", "unanswered", "late"])
        if self.dead:
            raise StoreUnavailable("the wire is cut")
        if not self.bad or fate == "done":
            return await super().txn(guards, writes)
        if fate == "unsent":
            raise StoreUnavailable(fate)
        if fate == "unanswered":
            await super().txn(guards, writes)
        if fate == "late":
            self.late.append(asyncio.create_task(self._later(guards, writes)))
        raise OutcomeUnknown(fate)

    async def _later(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        await asyncio.sleep(self.fates.uniform(0.0, 1.0))
        return await super().txn(guards, writes)

    async def keep_alive(self, lease: int) -> float:
        if self.dead:
            raise StoreUnavailable("the wire is cut")
        return await super().keep_alive(lease)


@given(seed=st.integers(min_value=0), cancels=st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_write_is_made_once_and_in_order(seed: int, cancels: bool) -> None:
    run(write_much(random.Random(seed), cancels))


async def write_much(fates: random.Random, cancels: bool) -> None:
    store = BadWire(fates)
    leader = await elect(store, "leader", b"one", ttl=TTL)
    store.bad = True
    cancelled: set[bytes] = set()
    for number in range(15):
        value = b"%d" % number
        writing = asyncio.create_task(leader.write([Put("log", value)]))
        if cancels and fates.random() < 0.3:
            await asyncio.sleep(fates.uniform(0.0, 0.3))
            writing.cancel()
        await asyncio.wait([writing])
        if writing.cancelled():
            cancelled.add(value)
        else:
            assert writing.result() is not None
            entry = await store.get("log")
            assert entry is not None
            assert entry.value == value, "an acknowledged write is the last one"
    store.bad = False
    assert await leader.write([Put("end", b"")])
    await asyncio.gather(*store.late)
    last = await store.put("now", b"")
    told = []
    async for item in store.watch("", start=2):
        assert isinstance(item, Changes)
        told += [c.entry.value for c in item.changes if c.entry and c.key == "log"]
        if item.revision == last:
            break
    assert told == sorted(set(told), key=int), "none twice, none after its successor"
    assert {b"%d" % n for n in range(15)} - set(told) <= cancelled
    await leader.resign()
    await store.close()


@given(seed=st.integers(min_value=0))
@settings(max_examples=100, deadline=None)
def test_a_write_whose_guard_fails_is_never_made(seed: int) -> None:
    """Not even when the guard comes to hold while an unanswered attempt is on its way."""

    async def story() -> None:
        store = BadWire(random.Random(seed))
        leader = await elect(store, "leader", b"one", ttl=TTL)
        await store.put("lock", b"")
        store.bad = True
        outcome = await leader.write([Put("a", b"")], [Guard.absent("lock")])
        store.bad = False
        assert outcome is None
        await store.delete("lock")
        await asyncio.gather(*store.late)
        assert await store.get("a") is None
        await leader.resign()
        await store.close()

    run(story())


def test_a_leader_that_can_not_renew_stops_before_its_lease_does() -> None:
    async def story() -> None:
        store = BadWire(random.Random(0))
        loop = asyncio.get_running_loop()
        leader = await elect(store, "leader", b"one", ttl=TTL)
        await asyncio.sleep(10 * TTL)
        assert leader.held, "it renews"
        store.dead = True
        reason = await leader.lost()
        assert reason.startswith("the lease could not be renewed")
        assert await store.get("leader") is not None, "the store still believes in it"
        with pytest.raises(Deposed):
            await leader.write([Put("a", b"")])
        lost_at = loop.time()
        await anext(store.watch("leader", start=leader.token + 1))
        assert loop.time() > lost_at
        assert await store.get("leader") is None
        await store.close()

    run(story())


def test_a_leader_whose_lease_can_not_be_renewed_hears_so() -> None:
    class Flawed(MemoryStore):
        async def keep_alive(self, lease: int) -> float:
            raise ZeroDivisionError("a fault of ours")

    async def main() -> str:
        leadership = await elect(Flawed(), "leader", b"a", ttl=TTL)
        return await asyncio.wait_for(leadership.lost(), 10 * TTL)

    assert "a fault of ours" in run(main())
