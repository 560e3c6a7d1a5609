"""The store in memory keeps the contract, and what is its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from rendezvous.errors import StoreUnavailable
from rendezvous.store import Compacted, MemoryStore
from tests.store_contract import Compact, StoreContract


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    store = MemoryStore()
    yield store
    await store.close()


@pytest.fixture
def compact(store: MemoryStore) -> Compact:
    return store.compact


class TestMemoryStore(StoreContract):
    ttl = 0.5


async def test_history_is_bounded() -> None:
    store = MemoryStore(history=10)
    for i in range(100):
        await store.put("a", b"%d" % i)
    told = [item async for item in store.watch("a", start=2)]
    assert len(told) == 1
    assert isinstance(told[0], Compacted)
    kept = store.watch("a", start=(await store.list("")).revision - 5)
    seen = [await anext(kept) for _ in range(6)]
    assert not any(isinstance(item, Compacted) for item in seen)
    await kept.aclose()
    await store.close()


async def test_closing_ends_watches_and_calls() -> None:
    store = MemoryStore()
    watching = asyncio.ensure_future(anext(store.watch("", start=2), None))
    await asyncio.sleep(0)
    await store.close()
    assert await watching is None
    with pytest.raises(StoreUnavailable):
        await store.get("a")
