"""Three members, of which one fails: the client goes on with the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from rendezvous.errors import StoreError
from rendezvous.etcd import EtcdClient
from rendezvous.store import Put, elect
from tests.etcd_server import EtcdCluster, EtcdServer
from tests.integration.etcd.history import PATIENCE, history


@pytest.fixture
async def client(etcd_cluster: EtcdCluster) -> AsyncIterator[EtcdClient]:
    client = EtcdClient(etcd_cluster.endpoints)
    await settled(client)
    yield client
    await client.close()


async def settled(client: EtcdClient) -> None:
    """A new cluster refuses for a moment, while its members agree on a version."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await client.put("settled", b"")
            except StoreError:
                continue
            return


def in_use(cluster: EtcdCluster, client: EtcdClient) -> EtcdServer:
    return next(m for m in cluster.members if m.endpoint == client.endpoint)


def leader(cluster: EtcdCluster, client: EtcdClient) -> EtcdServer:
    return cluster.leader()


Choice = Callable[[EtcdCluster, EtcdClient], EtcdServer]


@pytest.mark.parametrize("victim", [in_use, leader])
async def test_a_member_is_killed_and_comes_back(
    etcd_cluster: EtcdCluster, client: EtcdClient, victim: Choice
) -> None:
    """1. Writes are watched by several. 2. A member dies: writes go on. 3. It comes back."""
    others = [EtcdClient([member.endpoint]) for member in etcd_cluster.members]
    async with history(client, *others) as writer:
        dying = victim(etcd_cluster, client)
        await asyncio.to_thread(dying.kill)
        await writer.more(50)
        await asyncio.to_thread(dying.restart)
        await writer.more(50)
    for other in others:
        await other.close()


@pytest.mark.parametrize("victim", [in_use, leader])
async def test_a_member_stops_and_goes_on(
    etcd_cluster: EtcdCluster, client: EtcdClient, victim: Choice
) -> None:
    """1. Writes are watched. 2. A member stops, connections open: writes go on. 3. It goes on."""
    async with history(client, EtcdClient(etcd_cluster.endpoints)) as writer:
        stopped = victim(etcd_cluster, client)
        stopped.pause()
        await writer.more(50)
        stopped.resume()
        await writer.more(50)


@pytest.mark.slow
async def test_a_watch_leaves_a_member_that_stays_stopped(
    etcd_cluster: EtcdCluster, client: EtcdClient
) -> None:
    """Only the keepalive can tell: after 5 s of silence and 2 s without an answer to its ping."""
    start = (await client.list("")).revision + 1
    told = client.watch("a", start=start)
    await client.put("a", b"1")
    assert (await anext(told)).revision == start
    stopped = in_use(etcd_cluster, client)
    stopped.pause()
    async with asyncio.timeout(PATIENCE):
        revision = None
        while revision is None:
            try:
                revision = await client.put("a", b"2")
            except StoreError:
                continue
        seen = (await anext(told)).revision
    assert seen <= revision
    stopped.resume()
    await told.aclose()


@pytest.mark.slow
async def test_members_fail_one_after_the_other(
    etcd_cluster: EtcdCluster, client: EtcdClient
) -> None:
    """A long history: each member in turn is killed, then stopped, with a watcher on every one."""
    others = [EtcdClient([member.endpoint]) for member in etcd_cluster.members]
    async with history(client, EtcdClient(etcd_cluster.endpoints), *others) as writer:
        for member in etcd_cluster.members:
            await asyncio.to_thread(member.kill)
            await writer.more(30)
            await asyncio.to_thread(member.restart)
            member.pause()
            await writer.more(30)
            member.resume()
    for other in others:
        await other.close()


@pytest.mark.slow
async def test_all_members_die_and_come_back(etcd_cluster: EtcdCluster, client: EtcdClient) -> None:
    async with history(client) as writer:
        for member in etcd_cluster.members:
            await asyncio.to_thread(member.kill)
        for member in etcd_cluster.members:
            member.launch()
        for member in etcd_cluster.members:
            await asyncio.to_thread(member.wait_ready)
        await writer.more(30)


async def test_fenced_writes_are_made_once_while_leaders_change(
    etcd_cluster: EtcdCluster, client: EtcdClient
) -> None:
    """1. One leads and counts. 2. etcd's leader is killed, its next one stopped. 3. No count is
    missing or made twice, though answers were lost."""
    leading = await elect(client, "leader", b"one", ttl=20.0)
    made = 0
    counted = asyncio.Condition()

    async def count() -> None:
        nonlocal made
        while True:
            assert await leading.write([Put("count", b"%d" % made)])
            async with counted:
                made += 1
                counted.notify_all()

    async def more() -> None:
        goal = made + 20
        async with counted:
            await counted.wait_for(lambda: made >= goal)

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        counting = group.create_task(count())
        killed = etcd_cluster.leader()
        await asyncio.to_thread(killed.kill)
        await more()
        await asyncio.to_thread(killed.restart)
        stopped = etcd_cluster.leader()
        stopped.pause()
        await more()
        stopped.resume()
        counting.cancel()
    async with asyncio.timeout(PATIENCE):
        assert await leading.write([Put("end", b"")])
        entry = await client.get("count")
    assert entry is not None
    assert entry.version in (made, made + 1), "the last one was cancelled on its way"
    assert leading.held
    await leading.resign()
