"""A prefix kept in view: all of it once, then every change, and all of it again when need be."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from rendezvous.store.port import Store
from rendezvous.store.values import Changes, Compacted, Snapshot


async def follow(store: Store, prefix: str) -> AsyncGenerator[Snapshot | Changes, None]:
    """Yield a Snapshot, then Changes without gap or repetition; after a compaction begin anew.

    Raises what `store.list` raises.
    """
    while True:
        snapshot = await store.list(prefix)
        yield snapshot
        async with aclosing(store.watch(prefix, start=snapshot.revision + 1)) as told:
            async for item in told:
                if isinstance(item, Compacted):
                    break
                yield item
            else:
                return
