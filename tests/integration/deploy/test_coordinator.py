"""The coordinator of a spot job as its pod runs it: a real rendezvous, and an API server that holds
the agents' Deployment."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rendezvous.membership import JobSpec
from rendezvous.service.server import running
from rendezvous.session import Session
from rendezvous.session.events import GenerationBegan, JobEnded
from rendezvous.session.identity import NodeIdentity
from rendezvous.session.operator import Operator
from rendezvous.store import MemoryStore
from tests.integration.deploy.api_server import TOKEN, ApiServer, Fault, api_server

RUN = "demo-1"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        running.objects["Deployment", "demo-agents"] = {
            "metadata": {"name": "demo-agents", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"replicas": 3},
        }
        running.managers["Deployment", "demo-agents"] = {}
        yield running


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(TOKEN)
    return tmp_path


def replicas(server: ApiServer) -> int:
    return int(server.get("Deployment", "demo-agents")["spec"]["replicas"])


@asynccontextmanager
async def coordinator(
    server: ApiServer, account: Path, endpoint: str, *more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "trainer.deploy.coordinator", "--run-id", RUN,
        "--deployment", "demo-agents", "--rdzv-endpoint", endpoint, "--poll", "0.2",
        "--account", str(account), *more,
        env={"KUBERNETES_SERVER": server.url, "POD_NAMESPACE": "team"},
        cwd=Path(__file__).parents[3], stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def service() -> AsyncIterator[str]:
    """A service in this process that lets everybody in: its endpoint."""
    async with running(MemoryStore(), listen="127.0.0.1:0", handover=0.0) as replica:
        await replica.service.led.wait()
        yield replica.endpoint


async def told(process: asyncio.subprocess.Process, text: str) -> None:
    """Returns when the coordinator has said it."""
    assert process.stderr is not None
    said = []
    while line := await process.stderr.readline():
        said.append(line.decode())
        if text in said[-1]:
            return
    raise AssertionError(f"{text!r} was never said, but {''.join(said)}")


async def attend(endpoint: str, status: str | None, *, port: int = 9) -> None:
    """One node that joins, and is done with the job where `status` says how, or leaves it."""
    node = NodeIdentity(node="a", slots=1, host="127.0.0.1", store_endpoint=f"127.0.0.1:{port}")
    spec = JobSpec(min_nodes=1, max_nodes=1, last_call=0.1, wait=0.2, join_timeout=0.2)
    async with Session([endpoint], run_id=RUN, node=node, spec=spec) as session:
        async for event in session.events():
            if isinstance(event, GenerationBegan):
                number = event.generation.number
                await session.listening(number, store_endpoint="127.0.0.1:9")
                await session.running(number)
                if status == "left":
                    await session.leave("evicted")
                    return
                if status is not None:
                    await session.finished(number, status=status)
            if isinstance(event, JobEnded):
                return


@pytest.mark.parametrize("status", ["completed", "stopped"])
async def test_it_ends_as_the_job_does_and_sends_the_agents_home(server, account, status):
    """Also where `train.stop_at` has stopped it: it did what it was asked for."""
    async with (
        service() as endpoint,
        coordinator(server, account, endpoint) as process,
        asyncio.timeout(120),
    ):
        await told(process, "unknown")
        assert replicas(server) == 3
        await attend(endpoint, status)
        assert await process.wait() == 0
        assert replicas(server) == 0


async def test_a_job_whose_nodes_are_all_gone_is_waited_for(server, account):
    """1. The only node goes. 2. In time the job stops. 3. A new node takes it up, and completes."""
    async with (
        service() as endpoint,
        coordinator(server, account, endpoint) as process,
        asyncio.timeout(120),
    ):
        await attend(endpoint, "left")
        await told(process, "is stopped")
        assert replicas(server) == 3
        await attend(endpoint, "completed", port=10)
        assert await process.wait() == 0
        assert replicas(server) == 0


async def test_an_operators_stop_ends_it_too(server, account):
    async with (
        service() as endpoint,
        coordinator(server, account, endpoint) as process,
        Operator([endpoint]) as operator,
        asyncio.timeout(120),
    ):
        attending = asyncio.create_task(attend(endpoint, None))
        await told(process, "running")
        assert (await operator.stop(RUN, reason="enough")).accepted
        assert await process.wait() == 75
        assert replicas(server) == 0
        await attending


async def test_the_deadline_counts_from_the_first_agent(server, account):
    async with (
        service() as endpoint,
        coordinator(server, account, endpoint, "--deadline", "60") as process,
        asyncio.timeout(120),
    ):
        assert await process.wait() == 1
        assert replicas(server) == 0


async def test_it_waits_for_a_rendezvous_and_an_api_server_that_are_away(server, account):
    """1. One rendezvous is away. 2. By the other, the job completes. 3. The API server fails twice;
    the agents go home all the same."""
    server.faults.append(Fault("PATCH", 500, times=2))
    async with service() as endpoint, asyncio.timeout(120):
        nowhere = "127.0.0.1:1"
        async with coordinator(server, account, f"{nowhere},{endpoint}") as process:
            await told(process, "unknown")
            await attend(endpoint, "completed")
            await told(process, "could not be dismissed yet")
            assert await process.wait() == 0
            assert replicas(server) == 0


async def test_a_sigterm_ends_it_at_once_and_changes_nothing(server, account):
    async with (
        service() as endpoint,
        coordinator(server, account, endpoint) as process,
        asyncio.timeout(120),
    ):
        await told(process, "unknown")
        process.terminate()
        assert await process.wait() == 143
        assert replicas(server) == 3


async def test_a_secret_that_is_missing_is_a_wrong_usage(server, account):
    async with coordinator(
        server, account, "127.0.0.1:1", "--rdzv-conf", "token_file=/nowhere/token"
    ) as process:
        async with asyncio.timeout(120):
            assert await process.wait() == 2
