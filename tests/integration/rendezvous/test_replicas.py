"""Several replicas as processes over one etcd, and the command that shows them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from rendezvous.session import Disconnected, Operator
from tests.attendants import Crew, spec_of
from tests.etcd_server import EtcdServer, free_port
from tests.rendezvous_services import REPOSITORY, ServiceProcess


@pytest.fixture
def replicas(etcd: EtcdServer, tmp_path: Path) -> Iterator[list[ServiceProcess]]:
    """Two; the first one leads."""
    with (
        ServiceProcess.start(etcd.url, tmp_path / "1.log") as first,
        ServiceProcess.start(etcd.url, tmp_path / "2.log") as second,
    ):
        yield [first, second]


async def _leader(endpoints: list[str]) -> str:
    """Whom they tell to lead, once they know."""
    async with asyncio.timeout(60), Operator(endpoints) as operator:
        while not (leader := (await operator.status()).leader):
            await asyncio.sleep(0.05)
        return leader


async def test_a_follower_sends_agents_to_the_leader(replicas: list[ServiceProcess]) -> None:
    leader, follower = replicas
    assert await _leader([follower.endpoint]) == leader.endpoint
    async with Crew([follower.endpoint], spec_of(2, 2)) as crew:
        await crew.join("a", "b")
        await crew.formed(1)


async def test_sigterm_hands_over_and_nobody_is_disturbed(replicas: list[ServiceProcess]) -> None:
    """
    1. Two nodes train under the first replica, which is asked to stop.
    2. It exits with 0, the second leads at once, and both nodes are there.
    3. Their generation stands; the next loss is followed by generation 2.
    """
    first, second = replicas
    async with Crew([first.endpoint, second.endpoint], spec_of(1, 2)) as crew:
        a, b = await crew.join("a", "b")
        await crew.formed(1)
        assert first.terminate() == 0
        for attendant in (a, b):
            await attendant.until_heard(Disconnected)
            await attendant.until(lambda a=attendant: a.connected)  # type: ignore[misc]
            await attendant.until_steps(20)
            assert len(attendant.generations) == 1
        assert await _leader([second.endpoint]) == second.endpoint
        await b.vanish()
        assert (await a.until_generation(2)).number == 2


async def test_who_is_not_back_after_a_change_of_leader_is_lost(
    replicas: list[ServiceProcess],
) -> None:
    """1. The leader is killed, and a node with it. 2. The other replica leads when `--lease` is
    over; 3. the node is lost when `leader_grace` is, and the others go on without it."""
    first, second = replicas
    spec = spec_of(2, 3, beat_timeout=2.0, leader_grace=3.0)
    async with Crew([first.endpoint, second.endpoint], spec) as crew:
        a, b, c = await crew.join("a", "b", "c")
        assert len((await crew.formed(1)).members) == 3
        first.kill()
        await c.vanish()
        generation = await crew.formed(2, [a, b])
        assert sorted(member.node for member in generation.members) == ["a", "b"]
        lost = "node c was lost: not back within 3.0 s of the change of leader"
        assert lost in generation.reason
        assert "leading, with token" in second.log


async def test_the_state_in_etcd_is_small_and_readable(
    replicas: list[ServiceProcess], etcd: EtcdServer
) -> None:
    async with Crew([replicas[0].endpoint], spec_of(2, 2)) as crew:
        await crew.join("a", "b")
        await crew.formed(1)
        told = etcd.ctl("get", "--prefix", "/remesh/v1/").splitlines()
        assert told[0] == "/remesh/v1/job/job"
        record = json.loads(told[1])
        assert record["generation"]["number"] == 1
        assert record["generation"]["reason"]
        assert len(told[1]) < 1500
        # One write for each change of membership: none for joins alone, none for beats.
        before = _revision(etcd)
        await crew.all[0].until_steps(200)
        assert _revision(etcd) == before


async def test_health_and_reflection(replicas: list[ServiceProcess]) -> None:
    for replica in replicas:
        async with grpc.aio.insecure_channel(replica.endpoint) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            call = stub.ServerReflectionInfo()
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            told = await call.read()
            names = {service.name for service in told.list_services_response.service}
            assert "remesh.rendezvous.v1.Rendezvous" in names
            call.cancel()


async def test_status_drain_scale_and_stop_from_the_command(
    replicas: list[ServiceProcess],
) -> None:
    leader, follower = replicas
    async with Crew([leader.endpoint], spec_of(1, 2)) as crew:
        a, _b = await crew.join("a", "b")
        await crew.formed(1)
        a.session.report({"step": "12"})
        told = await _ask("status", "--json", "--endpoint", follower.endpoint)
        status = json.loads(told.stdout)
        assert status["leader"] == leader.endpoint
        (job,) = status["jobs"]
        assert (job["run_id"], job["phase"], job["generation"]) == ("job", "running", 1)
        assert {node["node"] for node in job["nodes"]} == {"a", "b"}
        text = (await _ask("status", "--endpoint", leader.endpoint)).stdout
        assert "generation 1" in text
        wrong = await _ask("drain", "job", "zebra", "--endpoint", leader.endpoint)
        assert wrong.returncode == 1
        assert "zebra" in wrong.stderr
        assert (await _ask("drain", "job", "b", "--endpoint", leader.endpoint)).returncode == 0
        await a.until_generation(2)
        assert a.members == ["a"]
        wrong = await _ask("scale", "job", "--nodes", "9", "--endpoint", leader.endpoint)
        assert "1 to 2" in wrong.stderr
        assert (await _ask("stop", "job", "--endpoint", leader.endpoint)).returncode == 0
        await a.until(lambda: any(type(event).__name__ == "JobEnded" for event in a.heard))


def test_metrics_are_told(tmp_path: Path) -> None:
    port = free_port()
    options = ["--metrics-listen", f"127.0.0.1:{port}"]
    with ServiceProcess.start("memory", tmp_path / "log", options=options):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            told = answer.read().decode()
        assert "remesh_rendezvous_streams 0.0" in told
        assert "remesh_rendezvous_store_write_seconds_count" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--store", "memory", "--listen", "0.0.0.0:0"], "--insecure"),
        (["--store", "memory", "--listen", "nowhere"], "HOST:PORT"),
        (["--store", "redis://x", "--listen", "127.0.0.1:0"], "etcd://"),
        (["--store", "memory", "--token-file", "/nowhere"], "/nowhere"),
        (["--store", "memory", "--tls-cert", "/nowhere"], "/nowhere"),
    ],
)
def test_a_wrong_argument_is_named_with_what_mends_it(arguments: list[str], words: str) -> None:
    done = _command("serve", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rendezvous", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=REPOSITORY,
    )


async def _ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(_command, *arguments)


def _revision(etcd: EtcdServer) -> int:
    (told,) = json.loads(etcd.ctl("endpoint", "status", "--write-out=json"))
    return int(told["Status"]["header"]["revision"])
