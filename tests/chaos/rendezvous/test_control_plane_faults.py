"""The control plane is killed, stopped, cut off and filled up, while workers count steps.

In each story:
1. Three nodes train in generation 1, under two replicas of the service over etcd.
2. The fault strikes. Every worker goes on stepping in generation 1, and nobody is interrupted.
3. The fault is over, or another replica has taken over. One node vanishes.
4. The other two enter generation 2. No number was told for two different generations.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from rendezvous.errors import Unreachable
from rendezvous.session import Operator
from tests.attendants import Attendant, Crew, spec_of
from tests.chaos.rendezvous.slow_disk import stalling
from tests.etcd_server import EtcdCluster, EtcdServer
from tests.proxy import Proxy
from tests.rendezvous_services import ServiceProcess

pytestmark = pytest.mark.slow

STEPS = 100
# All three are waited for, however slowly they come.
SPEC = spec_of(1, 3, last_call=60.0)


@pytest.fixture
def replicas(etcd_cluster: EtcdCluster, tmp_path: Path) -> Iterator[list[ServiceProcess]]:
    """Two over three members of etcd; the first one leads."""
    with (
        ServiceProcess.start(etcd_cluster.url, tmp_path / "replica1.log") as first,
        ServiceProcess.start(etcd_cluster.url, tmp_path / "replica2.log") as second,
    ):
        yield [first, second]


@asynccontextmanager
async def _training(replicas: list[ServiceProcess]) -> AsyncIterator[Crew]:
    endpoints = [replica.endpoint for replica in replicas]
    async with Crew(endpoints, SPEC) as crew:
        await crew.join("a", "b", "c")
        await crew.formed(1)
        yield crew


async def _goes_on(crew: Crew, steps: int = STEPS) -> None:
    """All of them step on in generation 1."""
    for attendant in crew.all:
        await attendant.until_steps(steps)
        assert [g.number for g in attendant.generations] == [1], attendant.heard


async def _membership_changes(crew: Crew) -> None:
    """A node vanishes and the others enter generation 2: nobody else was given up meanwhile."""
    for attendant in crew.all:
        await attendant.until(lambda a=attendant: a.connected)  # type: ignore[misc]
    lost, *others = crew.all
    await lost.vanish()
    generation = await crew.formed(2, others)
    assert generation.number == 2
    assert {m.node for m in generation.members} == {attendant.node for attendant in others}
    await asyncio.gather(*(attendant.until_steps(10) for attendant in others))
    _no_number_twice(crew.all)


def _no_number_twice(attendants: list[Attendant]) -> None:
    told: dict[int, object] = {}
    for attendant in attendants:
        numbers = [generation.number for generation in attendant.generations]
        assert numbers == sorted(set(numbers))
        for generation in attendant.generations:
            assert told.setdefault(generation.number, generation) == generation


async def _leader(replicas: list[ServiceProcess]) -> str:
    async with Operator([r.endpoint for r in replicas if r.running], deadline=2.0) as operator:
        return (await operator.status()).leader


async def _until_leads(replicas: list[ServiceProcess], replica: ServiceProcess) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if await _leader([replica]) == replica.endpoint:
                    return
            except Unreachable:
                pass
            await asyncio.sleep(0.1)


async def test_the_leading_service_is_killed(replicas: list[ServiceProcess]) -> None:
    async with _training(replicas) as crew:
        replicas[0].kill()
        await _goes_on(crew)
        await _until_leads(replicas, replicas[1])
        await _membership_changes(crew)


async def test_a_following_service_is_killed(replicas: list[ServiceProcess]) -> None:
    async with _training(replicas) as crew:
        replicas[1].kill()
        await _goes_on(crew)
        await _membership_changes(crew)


async def test_all_services_are_killed_and_come_back(replicas: list[ServiceProcess]) -> None:
    async with _training(replicas) as crew:
        for replica in replicas:
            replica.kill()
        await _goes_on(crew, 500)
        for replica in replicas:
            replica.restart()
        await _membership_changes(crew)


async def test_a_change_that_happens_while_all_services_are_gone_is_made_up_for(
    replicas: list[ServiceProcess],
) -> None:
    """The worker's failure is told again to whoever leads next."""
    async with _training(replicas) as crew:
        for replica in replicas:
            replica.kill()
        for attendant in crew.all:
            await attendant.until(lambda a=attendant: not a.connected)  # type: ignore[misc]
        await crew.all[1].fail_worker(rank=2, cause="while nobody listened")
        await _goes_on(crew)
        for replica in replicas:
            replica.restart()
        generation = await crew.formed(2)
        assert "while nobody listened" in generation.reason
        assert len(generation.members) == 3


async def test_the_leading_service_is_stopped_and_continues(
    replicas: list[ServiceProcess],
) -> None:
    """It wakes up deposed: what it still believes reaches nobody."""
    async with _training(replicas) as crew:
        replicas[0].pause()
        await _goes_on(crew)
        await _until_leads(replicas, replicas[1])
        for attendant in crew.all:
            await attendant.until(lambda a=attendant: a.connected)  # type: ignore[misc]
        replicas[0].resume()
        await _goes_on(crew)
        assert await _leader([replicas[1]]) == replicas[1].endpoint
        await _membership_changes(crew)


async def test_a_following_service_is_stopped(replicas: list[ServiceProcess]) -> None:
    async with _training(replicas) as crew:
        replicas[1].pause()
        await _goes_on(crew)
        await _membership_changes(crew)
        replicas[1].resume()


async def test_all_services_are_stopped_and_continue(replicas: list[ServiceProcess]) -> None:
    async with _training(replicas) as crew:
        for replica in replicas:
            replica.pause()
        await _goes_on(crew, 600)
        for replica in replicas:
            replica.resume()
        await _membership_changes(crew)


async def test_one_member_of_etcd_is_killed(
    replicas: list[ServiceProcess], etcd_cluster: EtcdCluster
) -> None:
    follower = (await asyncio.to_thread(etcd_cluster.followers))[0]
    async with _training(replicas) as crew:
        follower.kill()
        await _goes_on(crew)
        await _membership_changes(crew)


async def test_the_leader_of_etcd_is_killed(
    replicas: list[ServiceProcess], etcd_cluster: EtcdCluster
) -> None:
    leader = await asyncio.to_thread(etcd_cluster.leader)
    async with _training(replicas) as crew:
        leader.kill()
        await _goes_on(crew)
        await _membership_changes(crew)


async def test_the_leader_of_etcd_is_stopped(
    replicas: list[ServiceProcess], etcd_cluster: EtcdCluster
) -> None:
    leader = await asyncio.to_thread(etcd_cluster.leader)
    async with _training(replicas) as crew:
        await asyncio.to_thread(leader.pause)
        await _goes_on(crew)
        await _membership_changes(crew)
        leader.resume()


async def test_one_member_of_etcd_is_stopped(
    replicas: list[ServiceProcess], etcd_cluster: EtcdCluster
) -> None:
    follower = (await asyncio.to_thread(etcd_cluster.followers))[0]
    async with _training(replicas) as crew:
        await asyncio.to_thread(follower.pause)
        await _goes_on(crew)
        await _membership_changes(crew)
        follower.resume()


async def test_all_of_etcd_is_killed_for_half_a_minute(
    replicas: list[ServiceProcess], etcd_cluster: EtcdCluster
) -> None:
    async with _training(replicas) as crew:
        for member in etcd_cluster.members:
            member.kill()
        loop = asyncio.get_running_loop()
        end = loop.time() + 30
        while loop.time() < end:
            await _goes_on(crew, 50)
        for member in etcd_cluster.members:
            member.launch()
        for member in etcd_cluster.members:
            await asyncio.to_thread(member.wait_ready)
        await _membership_changes(crew)


async def test_etcd_stalls_again_and_again_as_on_a_slow_disk(
    replicas: list[ServiceProcess], etcd_cluster: EtcdCluster
) -> None:
    """Leases and writes only get slow."""
    async with _training(replicas) as crew, stalling(etcd_cluster):
        await _goes_on(crew, 300)
        await _membership_changes(crew)


@pytest.mark.parametrize("how", ["cut", "freeze"])
async def test_the_leading_service_is_partitioned_from_etcd(
    etcd: EtcdServer, tmp_path: Path, how: str
) -> None:
    """It can't prove any more that it leads, so it lets its agents go to the one that can."""
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(Proxy(etcd.endpoint))
        leader = ServiceProcess(f"etcd://{wire.endpoint}?learn=0", tmp_path / "replica1.log")
        other = ServiceProcess(etcd.url, tmp_path / "replica2.log")
        for replica in (leader, other):
            stack.callback(replica.close)
            replica.launch()
            await asyncio.to_thread(replica.wait_listening)
            if replica is leader:
                await _until_leads([leader], leader)
        crew = await stack.enter_async_context(_training([leader, other]))
        getattr(wire, how)()
        await _goes_on(crew)
        await _until_leads([other], other)
        await _goes_on(crew)
        await _membership_changes(crew)
        wire.heal()


async def test_etcd_is_full(tmp_path: Path) -> None:
    """Its quota is used up by a stranger. Nothing can be written until the operator mends it."""
    options = ["--quota-backend-bytes=4194304"]
    with (
        EtcdServer.start(tmp_path, options=options) as etcd,
        ServiceProcess.start(etcd.url, tmp_path / "replica.log") as replica,
    ):
        async with _training([replica]) as crew:
            await asyncio.to_thread(_fill, etcd)
            await _goes_on(crew, 300)
            lost, *others = crew.all
            await lost.vanish()
            await asyncio.gather(*(attendant.until_steps(200) for attendant in others))
            assert all(len(attendant.generations) == 1 for attendant in others)
            await asyncio.to_thread(_empty, etcd)
            generation = await crew.formed(2, others)
            assert generation.number == 2
            assert len(generation.members) == 2
            _no_number_twice(crew.all)


def _fill(etcd: EtcdServer) -> None:
    with pytest.raises(RuntimeError, match="space"):
        _put_much(etcd)


def _put_much(etcd: EtcdServer) -> None:
    for number in range(1000):
        etcd.ctl("put", f"/stranger/{number}", "x" * 100_000)


def _empty(etcd: EtcdServer) -> None:
    etcd.ctl("del", "--prefix", "/stranger/")
    revision = etcd.ctl("endpoint", "status", "--write-out=fields")
    number = next(line.split(":")[1] for line in revision.splitlines() if '"Revision"' in line)
    etcd.ctl("compact", number.strip())
    etcd.ctl("defrag")
    etcd.ctl("alarm", "disarm")


async def test_services_come_and_go_all_the_time(
    replicas: list[ServiceProcess], etcd_cluster: EtcdCluster
) -> None:
    """Six times over, the one that leads is killed, a node vanishes, and a new one joins."""
    async with _training(replicas) as crew:
        for life in range(6):
            victim = replicas[life % 2]
            victim.kill()
            await crew.all[life].vanish()
            present = crew.all[life + 1 :]
            number = max(a.generations[-1].number for a in present)
            await asyncio.gather(*(a.until_generation(number + 1) for a in present))
            victim.restart()
            await crew.join(f"new-{life}")
            present = crew.all[life + 1 :]
            await asyncio.gather(
                *(a.until(lambda a=a: len(a.members) == 3) for a in present)  # type: ignore[misc]
            )
        _no_number_twice(crew.all)


async def test_every_member_of_etcd_is_replaced_in_turn(tmp_path: Path) -> None:
    """No address that the services were given is left; each log says so, and they lead on."""
    # Otherwise members change only when all of them have known each other for five seconds.
    lax = ["--strict-reconfig-check=false"]
    with ExitStack() as stack:
        cluster = stack.enter_context(EtcdCluster.start(tmp_path, options=lax))
        logs = [tmp_path / "replica1.log", tmp_path / "replica2.log"]
        replicas = [stack.enter_context(ServiceProcess.start(cluster.url, log)) for log in logs]
        async with _training(replicas) as crew:
            living = list(cluster.members)
            for number in range(3):
                old, *others = living
                await asyncio.to_thread(others[0].settle)
                fresh = await asyncio.to_thread(others[0].add, f"fresh{number}", options=lax)
                stack.enter_context(fresh)
                living = [*others, fresh]
                await _logged(replicas, fresh.endpoint)
                await asyncio.to_thread(fresh.settle)
                members = fresh.members()
                await asyncio.to_thread(fresh.ctl, "member", "remove", members[old.name])
                old.kill()
            await _logged(replicas, "none of the endpoints given is named")
            await _goes_on(crew)
            await _membership_changes(crew)


async def _logged(replicas: list[ServiceProcess], words: str) -> None:
    async with asyncio.timeout(60):
        while not all(words in replica.log for replica in replicas):
            await asyncio.sleep(0.1)
