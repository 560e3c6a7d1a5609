"""Real torchrun processes with `--rdzv-backend=etcd-v3`, on a real etcd."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.etcd_server import EtcdServer
from tests.torchrun_agents import PATIENCE, Job, kill_tree

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
async def job(etcd: EtcdServer, tmp_path: Path) -> AsyncIterator[Job]:
    job = Job("etcd-v3", etcd.endpoint, "lease=2,last_call_timeout=2", tmp_path)
    yield job
    await job.close()


@pytest.mark.slow
async def test_two_agents_train_and_a_failed_worker_comes_back(job: Job, etcd: EtcdServer) -> None:
    """1. Two agents. 2. One's worker dies. 3. Both restart, in a round with a new store, where
    nothing of the old one can be read. 4. They end; the run is closed."""
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
    assert "/state/closed" in etcd.ctl("get", "--prefix", "--keys-only", "/remesh/torchrun/v1/job/")


async def test_agents_come_and_go(job: Job) -> None:
    """1. Two of at most three. 2. A third: up. 3. SIGTERM to one: down. 4. The one that hosts the
    store, and conducts, is killed with its workers: down. 5. The last one ends well."""
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


@pytest.mark.slow
async def test_etcd_is_away_for_a_while_and_training_goes_on(job: Job, etcd: EtcdServer) -> None:
    """1. Two agents train. 2. etcd is killed, for longer than a lease. 3. It comes back: the same
    round goes on. 4. A third joins."""
    a, b = [await job.agent("1:3") for _ in range(2)]
    before = await job.round_of(a, b)
    etcd.kill()
    await asyncio.sleep(3.0)
    await asyncio.to_thread(etcd.restart)
    assert job.entered()[-2:] == before
    c = await job.agent("1:3")
    await job.round_of(a, b, c)
    await job.finish(a, b, c)
