"""The client of a real etcd keeps the store's contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from rendezvous.etcd import Deadlines, EtcdClient
from rendezvous.store import Delete
from tests.etcd_server import EtcdServer
from tests.store_contract import Compact, StoreContract


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with EtcdServer.start(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
async def store(server: EtcdServer) -> AsyncIterator[EtcdClient]:
    client = EtcdClient([server.endpoint], deadlines=Deadlines(attempt=5.0, call=20.0))
    await client.txn([], [Delete("", prefix=True)])
    yield client
    await client.close()


@pytest.fixture
def compact(store: EtcdClient) -> Compact:
    return store.compact


class TestEtcdClient(StoreContract):
    ttl = 1.0

    async def test_a_list_is_read_page_by_page_as_of_one_revision(self, store: EtcdClient) -> None:
        for i in range(25):
            await store.put(f"p/{i:02}", b"")
        snapshot = await store.list("p/", page=7)
        assert [entry.key for entry in snapshot.entries] == [f"p/{i:02}" for i in range(25)]

    async def test_time_to_live(self, store: EtcdClient) -> None:
        lease = await store.grant(60.0)
        assert 50.0 <= await store.time_to_live(lease.id) <= 60.0
        await store.revoke(lease.id)

    async def test_closing_ends_a_watch(self, server: EtcdServer) -> None:
        client = EtcdClient([server.endpoint])
        start = await client.put("a", b"")
        told = client.watch("a", start=start)
        await anext(told)
        await client.close()
        assert [item async for item in told] == []
