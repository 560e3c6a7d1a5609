"""One etcd that dies, stops, restarts, forgets, fills up; a client that goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from rendezvous.errors import (
    Deposed,
    LeaseLost,
    OutcomeUnknown,
    RequestTooLarge,
    StoreFull,
    StoreUnavailable,
)
from rendezvous.etcd import Deadlines, EtcdClient
from rendezvous.store import Put, elect
from tests.etcd_server import EtcdServer
from tests.integration.etcd.history import PATIENCE, View, history
from tests.proxy import Proxy

SHORT = Deadlines(connect=0.3, attempt=0.5, call=1.0)


@pytest.fixture
async def client(etcd: EtcdServer) -> AsyncIterator[EtcdClient]:
    client = EtcdClient([etcd.endpoint])
    yield client
    await client.close()


@pytest.mark.parametrize("how", ["kill", "terminate"])
async def test_a_server_that_dies_and_comes_back(
    etcd: EtcdServer, client: EtcdClient, how: str
) -> None:
    """1. Writes are watched. 2. The server goes. 3. It comes back. 4. Both go on. Twice."""
    async with history(client) as writer:
        for _ in range(2):
            await asyncio.to_thread(getattr(etcd, how))
            await asyncio.to_thread(etcd.restart)
            await writer.more()


async def test_a_server_that_stops_and_goes_on(etcd: EtcdServer, client: EtcdClient) -> None:
    """Nobody waits longer than the deadline, and what had no answer may still be made later."""
    impatient = EtcdClient([etcd.endpoint], deadlines=SHORT)
    await impatient.get("a")
    async with history(client) as writer:
        etcd.pause()
        async with asyncio.timeout(10):
            with pytest.raises(StoreUnavailable):
                await impatient.get("a")
            with pytest.raises(OutcomeUnknown):
                await impatient.put("a", b"late")
        etcd.resume()
        await writer.more()
    await impatient.close()


async def test_a_server_that_is_away_at_first(etcd: EtcdServer) -> None:
    etcd.kill()
    client = EtcdClient([etcd.endpoint], deadlines=SHORT)
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable, match=etcd.endpoint):
            await client.put("a", b"")
    await asyncio.to_thread(etcd.restart)
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(StoreUnavailable):
                await client.put("a", b"")
                break
    await client.close()


async def test_a_wire_that_is_cut_and_frozen(etcd: EtcdServer) -> None:
    """A watcher behind a bad wire sees all that a writer beside the server writes."""
    near = EtcdClient([etcd.endpoint])
    async with Proxy(etcd.endpoint) as proxy:
        far = EtcdClient([proxy.endpoint], learn=False)
        async with history(near, far) as writer:
            for damage in (proxy.cut, proxy.freeze, proxy.cut):
                damage()
                await writer.more(50)
                proxy.heal()
                await writer.more(50)
        await far.close()
    await near.close()


async def test_a_compaction_under_a_watch(etcd: EtcdServer) -> None:
    """1. A view is cut off. 2. Keys come and go, and the history is compacted.
    3. The view comes back, is told so, lists again, and is right. 4. It goes on."""
    near = EtcdClient([etcd.endpoint])
    async with Proxy(etcd.endpoint) as proxy:
        far = EtcdClient([proxy.endpoint], learn=False)
        view = View(far)
        async with asyncio.TaskGroup() as group:
            viewing = group.create_task(view.run())
            await view.reach(await near.put("w/1", b""))
            proxy.cut()
            for i in range(50):
                await near.put(f"w/{i}", b"")
                await near.delete(f"w/{i}")
            last = await near.put("w/last", b"")
            await near.compact(last)
            proxy.heal()
            await view.reach(last)
            assert view.keys == {"w/last"}
            assert view.lists == 2
            await view.reach(await near.put("w/new", b""))
            assert view.keys == {"w/last", "w/new"}
            assert view.lists == 2
            viewing.cancel()
        await far.close()
    await near.close()


async def test_a_compaction_beneath_a_live_watch_is_not_felt(client: EtcdClient) -> None:
    async with history(client) as writer:
        for _ in range(5):
            await client.compact((await client.list("")).revision)
            await writer.more(5)


async def test_a_leader_cut_off_knows_its_end_before_another_begins(etcd: EtcdServer) -> None:
    """1. One leads, behind a wire. 2. The wire freezes; two stands. 3. One's lease runs out."""
    loop = asyncio.get_running_loop()
    near = EtcdClient([etcd.endpoint])
    async with Proxy(etcd.endpoint) as proxy:
        far = EtcdClient([proxy.endpoint], deadlines=SHORT, learn=False)
        first = await elect(far, "leader", b"one", ttl=2.0)
        contest = asyncio.create_task(elect(near, "leader", b"two", ttl=2.0))
        proxy.freeze()
        async with asyncio.timeout(PATIENCE):
            reason = await first.lost()
            lost_at = loop.time()
            assert "renewed" in reason
            assert not contest.done()
            second = await contest
        assert lost_at < loop.time()
        assert second.token > first.token
        with pytest.raises(Deposed):
            await first.write([Put("a", b"stale")])
        proxy.heal()
        assert await second.write([Put("a", b"fresh")])
        await second.resign()
        await far.close()
    await near.close()


async def test_a_leader_whose_event_loop_is_busy_leads_on(client: EtcdClient) -> None:
    """Its loop does not turn for longer than the lease."""
    leader = await elect(client, "leader", b"one", ttl=2.0, own_thread=True)
    await asyncio.sleep(0.5)
    time.sleep(3.5)  # noqa: ASYNC251
    assert leader.held
    assert await leader.write([Put("a", b"1")])
    await leader.resign()
    assert await client.get("leader") is None


async def test_a_leader_whose_event_loop_is_dead_leads_no_more(
    etcd: EtcdServer, client: EtcdClient
) -> None:
    """Its thread could renew for ever; its key goes, and when it wakes up it finds so."""
    leader = await elect(client, "leader", b"one", ttl=2.0, own_thread=True)
    end = time.monotonic() + PATIENCE
    while etcd.ctl("get", "leader"):
        assert time.monotonic() < end, "a dead loop keeps its leadership"
        time.sleep(0.2)  # noqa: ASYNC251
    assert not leader.held
    with pytest.raises(Deposed):
        await leader.write([Put("a", b"stale")])
    assert await leader.lost()
    await leader.resign()


async def test_a_lease_outlives_its_server(etcd: EtcdServer, client: EtcdClient) -> None:
    """A restarted server knows the lease; one that nobody renews runs out."""
    lease = await client.grant(3.0)
    await client.put("a", b"", lease=lease.id)
    await asyncio.to_thread(etcd.kill)
    await asyncio.to_thread(etcd.restart)
    assert await client.keep_alive(lease.id) == lease.ttl
    revision = (await client.list("a")).revision
    async with asyncio.timeout(PATIENCE):
        changes = await anext(client.watch("a", start=revision + 1))
    assert [change.entry for change in changes.changes] == [None]
    with pytest.raises(LeaseLost):
        await client.time_to_live(lease.id)


async def test_what_is_too_large_is_refused(client: EtcdClient) -> None:
    with pytest.raises(RequestTooLarge):
        await client.put("a", b"x" * 2_000_000)
    with pytest.raises(RequestTooLarge):
        await client.txn([], [Put(f"a/{i}", b"") for i in range(129)])
    assert (await client.list("")).entries == ()


async def test_a_full_server_is_told_apart(tmp_path: Path) -> None:
    with EtcdServer.start(tmp_path, options=["--quota-backend-bytes=4000000"]) as etcd:
        client = EtcdClient([etcd.endpoint])

        async def fill() -> None:
            for i in range(400):  # its quota is looked at now and then
                await client.put(f"a/{i}", b"x" * 500_000)

        with pytest.raises(StoreFull):
            await fill()
        assert await client.get("a/0") is not None, "reading still works"
        await client.close()
