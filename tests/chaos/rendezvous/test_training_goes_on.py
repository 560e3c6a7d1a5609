"""A real job of two nodes trains through every fault of its control plane.

The other tests here count a dummy worker's steps, because each of them also changes the membership
and must not wait for imports; here is what the counter stands for:

1. `remesh run` on two nodes, in generation 1, under two replicas of the service over three etcds.
2. One fault after the other strikes and ends. Each time the job takes steps while it lasts, and
   more when the control plane is whole again, without leaving generation 1.
3. One agent is killed. The other trains on in generation 2, and no number was ever used twice.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil
import pytest

from rendezvous.errors import Unreachable
from rendezvous.session import Operator
from rendezvous.wire import rendezvous_pb2 as wire
from tests.chaos.rendezvous.slow_disk import stalling
from tests.etcd_server import EtcdCluster, EtcdServer
from tests.proxy import Proxy
from tests.rendezvous_services import ServiceProcess
from trainer.telemetry.files import read_lines

pytestmark = pytest.mark.slow

STEPS = 10
PATIENCE = 240.0
ETCD_AWAY = 30.0
JOB = """\
model: {preset: debug}
train: {steps: 100000, pieces: 2}
elastic:
  nodes: "1:2"
  nproc_per_node: 1
  standby_per_node: 0
  last_call: 60
  hang_timeout: 300
  beat_timeout: 10
  reconnect_grace: 3
compile: {enabled: false}
"""


async def until(holds: Callable[[], bool], what: str) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    while not holds():
        assert loop.time() < end, f"waited in vain: {what}"
        await asyncio.sleep(0.1)


class Job:
    """`remesh run` on nodes a and b."""

    def __init__(self, folder: Path, endpoints: Iterable[str]) -> None:
        self._folder, self._endpoints = folder, ",".join(endpoints)
        self.root = folder / "runs" / "job"
        self.agents: dict[str, psutil.Popen] = {}
        (folder / "job.yaml").write_text(JOB)

    def start(self, node: str) -> None:
        with (self._folder / f"{node}.log").open("wb") as log:
            self.agents[node] = psutil.Popen(
                [
                    *(sys.executable, "-m", "trainer.command", "run", "job.yaml"),
                    *("--node", node, "--rdzv-id", "job", "--rdzv-endpoint", self._endpoints),
                ],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, node: str) -> None:
        """The agent and its workers, as when a machine goes."""
        agent = self.agents.pop(node)
        for process in [*agent.children(recursive=True), agent]:
            process.kill()
        agent.wait()

    def close(self) -> None:
        for node in list(self.agents):
            self.kill(node)

    @property
    def steps(self) -> list[tuple[int, int]]:
        """(step, generation) of each step that was taken."""
        return [(m["step"], m["generation"]) for m in read_lines(self.root / "metrics.jsonl")]

    @property
    def generations(self) -> list[int]:
        events = read_lines(self.root / "events.jsonl")
        return [e["generation"] for e in events if e["event"] == "generation.begin"]

    async def takes_steps(self, generation: int) -> None:
        """More of them, all in one generation."""
        before = len(self.steps)
        await until(lambda: len(self.steps) >= before + STEPS, "the job takes steps")
        assert {number for _, number in self.steps[before:]} == {generation}


class ControlPlane:
    """Two replicas over three members; the first one's wires to them can be cut."""

    def __init__(self, etcd: EtcdCluster, replicas: list[ServiceProcess], wires: list[Proxy]):
        self.etcd, self.replicas, self.wires = etcd, replicas, wires

    async def status(self) -> wire.StatusReply | None:
        endpoints = [replica.endpoint for replica in self.replicas if replica.running]
        try:
            async with Operator(endpoints, deadline=2.0) as operator:
                return await operator.status()
        except Unreachable:
            return None

    async def leader(self) -> ServiceProcess:
        status = await self.status()
        assert status is not None
        return next(r for r in self.replicas if r.endpoint == status.leader)

    async def is_whole(self) -> None:
        """A replica leads, and both nodes are back with it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                status = await self.status()
                nodes = [n.state for j in status.jobs for n in j.nodes] if status else []
                if nodes == ["running", "running"]:
                    return
                await asyncio.sleep(0.2)


Fault = Callable[[ControlPlane], AsyncIterator[None]]


async def the_leading_service_is_killed(plane: ControlPlane) -> AsyncIterator[None]:
    leader = await plane.leader()
    leader.kill()
    yield
    await plane.is_whole()
    leader.restart()


async def all_services_are_killed(plane: ControlPlane) -> AsyncIterator[None]:
    for replica in plane.replicas:
        replica.kill()
    yield
    for replica in plane.replicas:
        replica.restart()


async def the_leading_service_is_stopped(plane: ControlPlane) -> AsyncIterator[None]:
    leader = await plane.leader()
    leader.pause()
    yield
    await plane.is_whole()
    leader.resume()


async def all_services_are_stopped(plane: ControlPlane) -> AsyncIterator[None]:
    for replica in plane.replicas:
        replica.pause()
    yield
    for replica in plane.replicas:
        replica.resume()


async def the_first_service_is_cut_off_from_etcd(plane: ControlPlane) -> AsyncIterator[None]:
    for cable in plane.wires:
        cable.cut()
    yield
    await plane.is_whole()
    for cable in plane.wires:
        cable.heal()


async def a_member_of_etcd_is_killed(plane: ControlPlane) -> AsyncIterator[None]:
    member = (await asyncio.to_thread(plane.etcd.followers))[0]
    member.kill()
    yield
    await _back([member])


async def the_leader_of_etcd_is_killed(plane: ControlPlane) -> AsyncIterator[None]:
    member = await asyncio.to_thread(plane.etcd.leader)
    member.kill()
    yield
    await _back([member])


async def the_leader_of_etcd_is_stopped(plane: ControlPlane) -> AsyncIterator[None]:
    member = await asyncio.to_thread(plane.etcd.leader)
    await asyncio.to_thread(member.pause)
    yield
    await plane.is_whole()
    member.resume()


async def all_of_etcd_is_killed_for_half_a_minute(plane: ControlPlane) -> AsyncIterator[None]:
    for member in plane.etcd.members:
        member.kill()
    away = asyncio.create_task(asyncio.sleep(ETCD_AWAY))
    yield
    await away
    yield
    await _back(plane.etcd.members)


async def etcd_is_as_slow_as_a_bad_disk(plane: ControlPlane) -> AsyncIterator[None]:
    async with stalling(plane.etcd):
        yield


async def _back(members: Iterable[EtcdServer]) -> None:
    for member in members:
        member.launch()
    for member in members:
        await asyncio.to_thread(member.wait_ready)


FAULTS: tuple[Fault, ...] = (
    the_leading_service_is_killed,
    all_services_are_killed,
    the_leading_service_is_stopped,
    all_services_are_stopped,
    the_first_service_is_cut_off_from_etcd,
    a_member_of_etcd_is_killed,
    the_leader_of_etcd_is_killed,
    the_leader_of_etcd_is_stopped,
    all_of_etcd_is_killed_for_half_a_minute,
    etcd_is_as_slow_as_a_bad_disk,
)


@asynccontextmanager
async def control_plane(etcd: EtcdCluster, folder: Path) -> AsyncIterator[ControlPlane]:
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(Proxy(member.endpoint)) for member in etcd.members]
        far = "etcd://" + ",".join(cable.endpoint for cable in wires) + "?learn=0"
        replicas = []
        for name, store in (("first", far), ("second", etcd.url)):
            replica = ServiceProcess(store, folder / f"{name}.log")
            stack.callback(replica.close)
            replica.launch()
            await asyncio.to_thread(replica.wait_listening)
            replicas.append(replica)
        yield ControlPlane(etcd, replicas, wires)


@pytest.mark.timeout(900)
async def test_a_job_trains_through_every_fault_of_its_control_plane(
    etcd_cluster: EtcdCluster, tmp_path: Path
) -> None:
    async with control_plane(etcd_cluster, tmp_path) as plane:
        job = Job(tmp_path, [replica.endpoint for replica in plane.replicas])
        try:
            for node in ("a", "b"):
                job.start(node)
            await until(lambda: job.steps != [], "the job begins")
            await job.takes_steps(1)
            for fault in FAULTS:
                async for _ in fault(plane):
                    await job.takes_steps(1)
                await plane.is_whole()
                await job.takes_steps(1)
                assert job.generations == [1], fault.__name__
            job.kill("b")
            await until(lambda: job.generations == [1, 2], "the other node goes on alone")
            await job.takes_steps(2)
            numbers = [step for step, _ in job.steps]
            assert numbers == sorted(set(numbers)), "no step is counted twice"
        finally:
            job.close()
