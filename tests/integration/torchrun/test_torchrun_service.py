"""Real torchrun processes with `--rdzv-backend=remesh`, on a real service process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.rendezvous_services import ServiceProcess
from tests.torchrun_agents import PATIENCE, Job, kill_tree

CONF = "beat_timeout=10,last_call_timeout=2,grow_interval=1"

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess.start("memory", tmp_path / "service.txt") as service:
        yield service


@pytest.fixture
async def job(service: ServiceProcess, tmp_path: Path) -> AsyncIterator[Job]:
    job = Job("remesh", service.endpoint, CONF, tmp_path)
    yield job
    await job.close()


async def test_two_agents_form_a_job_and_end_it(job: Job) -> None:
    """1. Two agents. 2. Both end well, and so does the job. 3. A late one is not let in."""
    agents = [await job.agent("1:2") for _ in range(2)]
    await job.round_of(*agents)
    await job.finish(*agents)
    late = await job.agent("1:2")
    async with asyncio.timeout(PATIENCE):
        assert await late.wait() != 0
    assert "the job is completed" in job.log


@pytest.mark.slow
async def test_a_failed_worker_comes_back_with_all_others(job: Job) -> None:
    """1. Two agents sum together. 2. One's worker dies. 3. Both restart, with a new store."""
    agents = [await job.agent("2", how="together") for _ in range(2)]
    first = await job.round_of(*agents)
    os.kill(first[0]["pid"], signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        while len(job.entered()) < 4:
            await asyncio.sleep(0.05)
    second = await job.round_of(*agents)
    assert [line["sum"] for line in first + second] == [2] * 4
    assert {line["store"] for line in first} != {line["store"] for line in second}
    ranks = {line["agent"]: line["rank"] for line in first}
    assert ranks == {line["agent"]: line["rank"] for line in second}, "ranks stay"
    await job.finish(*agents)


@pytest.mark.slow
async def test_agents_come_and_go(job: Job) -> None:
    """1. Two of at most three. 2. A third: up. 3. SIGTERM to one: down. 4. The one that hosts the
    store is killed with its workers: down. 5. The last one ends well."""
    a = await job.agent("1:3")
    b = await job.agent("1:3")
    await job.round_of(a, b)
    c = await job.agent("1:3")
    third = await job.round_of(a, b, c)
    host = next(line["agent"] for line in third if line["rank"] == 0)
    first, leaving = (a, b) if host == a.pid else (b, a)
    leaving.terminate()
    await job.round_of(first, c)
    kill_tree(first.pid)
    await job.round_of(c)
    await job.finish(c)
