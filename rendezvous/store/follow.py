"""A prefix kept in view: all of it once, then every change, and all of it again when need be."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

from rendezvous.store.port import Store
from rendezvous.store.values import Changes, Compacted, Snapshot

PAUSE = (0.05, 0.25)
"""Seconds before it begins anew, at random."""


async def follow(
    store: Store, prefix: str, *, refresh: float | None = None
) -> AsyncGenerator[Snapshot | Changes, None]:
    """Yield a Snapshot, then Changes without gap or repetition; after a compaction begin anew.

    With `refresh` it begins anew every so many seconds as well: a watch that went on over a store
    which was restored to an older state does not tell what that has undone. Raises what
    `store.list` raises.
    """
    clock = asyncio.get_running_loop().time
    while True:
        until = None if refresh is None else clock() + refresh
        snapshot = await store.list(prefix)
        yield snapshot
        async with aclosing(store.watch(prefix, start=snapshot.revision + 1)) as told:
            while True:
                try:
                    async with asyncio.timeout_at(until):
                        item = await anext(told, None)
                except TimeoutError:
                    break
                if item is None:
                    return
                if isinstance(item, Compacted):
                    # The next one may be the same member of the store, still behind the others.
                    await asyncio.sleep(random.uniform(*PAUSE))
                    break
                yield item
