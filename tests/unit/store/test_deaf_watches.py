"""A watch may tell nothing, though much has happened: whoever waits looks again for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from rendezvous.store import Changes, Compacted, MemoryStore, Snapshot, elect, follow
from tests.virtual_time import run

PATIENCE = 60.0


class Deaf(MemoryStore):
    """Its watches begin and tell nothing."""

    async def watch(self, prefix: str, *, start: int) -> AsyncGenerator[Changes | Compacted, None]:
        await asyncio.Event().wait()
        yield Compacted(0)


def test_a_candidate_stands_again_though_its_watch_tells_nothing() -> None:
    async def story() -> None:
        store = Deaf()
        first = await elect(store, "leader", b"one", ttl=5.0)
        waiting = asyncio.create_task(elect(store, "leader", b"two", ttl=5.0))
        await asyncio.sleep(1.0)
        await first.resign()
        async with asyncio.timeout(PATIENCE):
            second = await waiting
        await second.resign()

    run(story())


def test_a_view_begins_anew_at_intervals() -> None:
    async def story() -> None:
        store = Deaf()
        async with aclosing(follow(store, "a", refresh=10.0)) as view:
            first = await anext(view)
            await store.put("a", b"1")
            async with asyncio.timeout(PATIENCE):
                second = await anext(view)
        assert isinstance(first, Snapshot)
        assert isinstance(second, Snapshot)
        assert first.entries == ()
        assert [entry.key for entry in second.entries] == ["a"]
        await store.close()

    run(story())
