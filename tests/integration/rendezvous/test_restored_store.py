"""A real etcd goes back in time under services and sessions that live on.

In each story two nodes are in generation 1 when the snapshot is taken, and go on to generation 3.
Then etcd is killed, restored, and started again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rendezvous.etcd import EtcdClient
from rendezvous.session import JobEnded, Operator, Spare
from tests.attendants import Attendant, Crew, spec_of
from tests.etcd_server import EtcdServer
from tests.rendezvous_services import ServiceProcess

SPEC = spec_of(1, 3, beat_timeout=2.0, leader_grace=3.0)


@pytest.fixture
def service(etcd: EtcdServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess.start(etcd.url, tmp_path / "1.log") as alone:
        yield alone


@asynccontextmanager
async def _restored(etcd: EtcdServer, service: ServiceProcess) -> AsyncIterator[Crew]:
    """Two nodes in generation 3, and a store that knows generation 1."""
    async with Crew([service.endpoint], SPEC) as crew:
        a, b = await crew.join("a", "b")
        await _together(crew, 1)
        snapshot = etcd.snapshot()
        for number, one in ((2, a), (3, b)):
            await one.fail_worker(0)
            await _together(crew, number)
        await _go_back(etcd, service, snapshot)
        yield crew


async def _together(crew: Crew, number: int) -> None:
    """All are in one generation, this one or a later."""
    for one in crew.all:
        await one.until(
            lambda one=one: sorted(one.members) == ["a", "b"] and _number(one) >= number
        )  # type: ignore[misc]


def _number(one: Attendant) -> int:
    return one.generation.number if one.generation is not None else 0


async def _go_back(etcd: EtcdServer, service: ServiceProcess, snapshot: Path) -> None:
    """etcd is away for longer than the lease: then the leader begins anew, with the record."""
    etcd.kill()
    await _logs([service], "no longer leading")
    etcd.restore(snapshot)
    await asyncio.to_thread(etcd.restart)


def _record(etcd: EtcdServer) -> dict[str, object]:
    record: dict[str, object] = json.loads(etcd.ctl("get", "/remesh/v1/job/job").splitlines()[1])
    return record


async def test_members_go_on_above_what_they_have_heard(
    etcd: EtcdServer, service: ServiceProcess
) -> None:
    """
    1. They come back from generation 3; the record says 1. Nobody is interrupted until all may
       have come.
    2. Generation 4 begins, for both, and is stored; the log says from where to where.
    3. A worker that fails is replaced, and a node that joins gets in.
    """
    async with _restored(etcd, service) as crew:
        a, b = crew.all
        heard = {one: len(one.heard) for one in crew.all}
        generation = await crew.formed(4)
        assert generation.number == 4
        assert {member.node for member in generation.members} == {"a", "b"}
        for one in crew.all:
            assert not [e for e in one.heard[heard[one] :] if isinstance(e, JobEnded | Spare)]
        assert "the store went back from generation 3" in service.log
        assert "to generation 1" in service.log
        assert _record(etcd)["generation"]["number"] == 4  # type: ignore[index]
        await a.fail_worker(0)
        await crew.formed(5)
        (c,) = await crew.join("c")
        await c.until(lambda: sorted(c.members) == ["a", "b", "c"])
        await b.until(lambda: sorted(b.members) == ["a", "b", "c"])


async def test_members_that_finished_meanwhile_end_the_job(
    etcd: EtcdServer, service: ServiceProcess
) -> None:
    async with _restored(etcd, service) as crew:
        for one in crew.all:
            await one.session.finished(3, status="completed")
        for one in crew.all:
            ended = await one.until_heard(JobEnded)
            assert isinstance(ended, JobEnded)
            assert ended.status == "completed"
        assert _record(etcd)["ended"]["status"] == "completed"  # type: ignore[index]


async def test_a_job_that_was_stopped_then_and_goes_on_now_is_not_sent_home(
    etcd: EtcdServer, service: ServiceProcess
) -> None:
    """
    1. The job is stopped in generation 1: that is the snapshot. New lives of its nodes resume it.
    2. etcd is restored: they go on, in a generation of their own.
    """
    async with Crew([service.endpoint], SPEC) as first:
        await first.join("a", "b")
        await _together(first, 1)
        async with Operator([service.endpoint]) as operator:
            await operator.stop("job", reason="a test")
        for one in first.all:
            await one.until_heard(JobEnded)
    snapshot = etcd.snapshot()
    async with Crew([service.endpoint], SPEC) as crew:
        await crew.join("a", "b")
        await _together(crew, 2)
        newest = max(_number(one) for one in crew.all)
        await _go_back(etcd, service, snapshot)
        await crew.formed(newest + 1)
        for one in crew.all:
            assert not [e for e in one.heard if isinstance(e, JobEnded)]
            await one.until_steps(20)
        assert "in which the job has stopped" in service.log


async def test_a_follower_hears_of_an_end_after_the_store_went_back(
    etcd: EtcdServer, service: ServiceProcess, tmp_path: Path
) -> None:
    """
    1. After the snapshot etcd takes many writes that both services' watches tell of, so that
       these are far beyond the snapshot.
    2. It is restored. One of the services leads, and is killed.
    3. The other one leads.
    """
    with ServiceProcess.start(etcd.url, tmp_path / "2.log") as second:
        both = [service, second]
        await _leads(both)
        snapshot = etcd.snapshot()
        client = EtcdClient([etcd.endpoint])
        for number in range(100):
            await client.put("/remesh/leader.beside", b"%d" % number)
        await client.close()
        etcd.kill()
        # Longer than the lease: the leader steps down, so that both stand anew.
        await _logs(both, "no longer leading")
        etcd.restore(snapshot)
        await asyncio.to_thread(etcd.restart)
        leader = await _leads(both)
        leader.kill()
        other = second if leader is service else service
        assert await _leads([other]) is other


async def _leads(services: list[ServiceProcess]) -> ServiceProcess:
    """Which of them leads, once one does."""
    async with asyncio.timeout(60):
        while True:
            for one in services:
                async with Operator([one.endpoint], deadline=5.0) as operator:
                    status = await operator.status()
                if status.leader == one.endpoint and status.leading_for > 0:
                    return one
            await asyncio.sleep(0.1)


async def _logs(services: list[ServiceProcess], words: str) -> None:
    async with asyncio.timeout(60):
        while not any(words in one.log for one in services):
            await asyncio.sleep(0.1)
