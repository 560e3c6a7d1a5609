"""One service leads, whatever somebody does to the keys or the list of endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rendezvous.etcd import EtcdClient
from rendezvous.session import JobEnded, Operator
from tests.attendants import Crew, spec_of
from tests.etcd_server import EtcdCluster, EtcdServer
from tests.rendezvous_services import ServiceProcess

LEADER = "/remesh/leader"


@pytest.fixture
def replicas(etcd: EtcdServer, tmp_path: Path) -> Iterator[list[ServiceProcess]]:
    with ExitStack() as stack:
        yield _start(stack, etcd.url, tmp_path)


def _start(stack: ExitStack, store: str, directory: Path) -> list[ServiceProcess]:
    return [
        stack.enter_context(ServiceProcess.start(store, directory / f"replica{i}.log"))
        for i in (1, 2)
    ]


async def _leaders(replicas: list[ServiceProcess]) -> list[ServiceProcess]:
    """Those who say that they lead."""
    leading = []
    for replica in replicas:
        async with Operator([replica.endpoint], deadline=5.0) as operator:
            if (await operator.status()).leader == replica.endpoint:
                leading.append(replica)
    return leading


async def _one_leads(replicas: list[ServiceProcess]) -> ServiceProcess:
    async with asyncio.timeout(60):
        while len(leading := await _leaders(replicas)) != 1:
            await asyncio.sleep(0.1)
    return leading[0]


async def _until(holds: str, replica: ServiceProcess) -> None:
    """The replica's log says so."""
    async with asyncio.timeout(60):
        while holds not in replica.log:
            await asyncio.sleep(0.05)


async def test_a_deleted_election_key_ends_the_leadership_and_no_run(
    etcd: EtcdServer, replicas: list[ServiceProcess]
) -> None:
    """
    1. Two nodes are in generation 1. Somebody deletes the election key.
    2. The leader steps down by itself; one leads again. Nobody was disturbed.
    3. The nodes' workers finish: the job is completed.
    """
    leader = await _one_leads(replicas)
    async with Crew([r.endpoint for r in replicas], spec_of(2, 2)) as crew:
        await crew.join("a", "b")
        await crew.formed(1)
        etcd.ctl("del", LEADER)
        await _until("no longer leading: the election key is gone", leader)
        await _one_leads(replicas)
        for one in crew.all:
            await one.until_steps(20)
            await one.session.finished(1, status="completed")
        for one in crew.all:
            ended = await one.until_heard(JobEnded)
            assert isinstance(ended, JobEnded)
            assert ended.status == "completed"
            assert len(one.generations) == 1


async def test_what_is_no_leaders_and_no_text_decides_nothing(
    etcd: EtcdServer, replicas: list[ServiceProcess]
) -> None:
    """
    1. Keys that are not UTF-8 and records of wrong types lie among ours, and text over the election
       key. The leader puts that right, and is killed.
    2. The other one leads, names the keys in its log, and does not use up the processor.
    """
    leader = await _one_leads(replicas)
    (other,) = (replica for replica in replicas if replica is not leader)
    put = [b"/remesh/v1/caf\xe9/job", b"/remesh/v1/caf\xe9", b"/remesh/leader\xff"]
    client = EtcdClient([etcd.endpoint])
    for key in put:
        etcd.put_bytes(key, b"x")
    await client.put("/remesh/v1/other/job", b'{"format": 1, "target": "x"}')
    await client.put(LEADER, b"garbage")
    await _until("somebody has written over /remesh/leader", leader)
    async with asyncio.timeout(60):
        while (entry := await client.get(LEADER)) is None or entry.lease == 0:
            await asyncio.sleep(0.05)
    await client.close()
    leader.kill()
    assert await _one_leads([other]) is other
    await _until("/remesh/v1/other/job", other)
    await _until("xe9/job' is no key of a job", other)
    before = other.cpu_seconds()
    await asyncio.sleep(2.0)
    assert other.cpu_seconds() - before < 1.0, "it loops"
    assert "Traceback" not in other.log


async def test_text_in_the_election_key_is_removed(etcd: EtcdServer, tmp_path: Path) -> None:
    etcd.ctl("put", LEADER, "garbage")
    with ExitStack() as stack:
        replicas = _start(stack, etcd.url, tmp_path)
        await _one_leads(replicas)


@pytest.mark.slow
async def test_an_endpoint_of_another_cluster_is_refused_by_name(tmp_path: Path) -> None:
    """
    1. Of three endpoints one belongs to another cluster. However often services start, one leads.
    2. The stranger is named, and has none of our keys.
    """
    with ExitStack() as stack:
        meant = stack.enter_context(EtcdCluster.start(tmp_path / "meant", 2))
        stranger = stack.enter_context(EtcdServer.start(tmp_path / "stranger"))
        store = f"{meant.url},{stranger.endpoint}"
        named = 0
        for turn in range(4):
            with ExitStack() as services:
                directory = tmp_path / str(turn)
                directory.mkdir()
                replicas = _start(services, store, directory)
                await _one_leads(replicas)
                assert len(await _leaders(replicas)) == 1
                named += sum(
                    f"{stranger.endpoint} is not used: it belongs to another etcd cluster" in r.log
                    for r in replicas
                )
        assert named, "nobody has begun with the stranger"
        assert LEADER not in stranger.ctl("get", "--prefix", "/remesh/")
        assert meant.members[0].ctl("get", "/remesh/cluster")


def test_a_list_of_two_clusters_leads_nowhere(tmp_path: Path) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(EtcdServer.start(tmp_path / "1"))
        second = stack.enter_context(EtcdServer.start(tmp_path / "2"))
        store = f"{first.url},{second.endpoint}"
        replica = stack.enter_context(ServiceProcess.start(store, tmp_path / "log"))
        asyncio.run(_until("name the endpoints of one cluster", replica))
        for server in (first, second):
            assert server.ctl("get", "--prefix", "/remesh/") == ""
