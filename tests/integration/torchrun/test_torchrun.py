"""Real torchrun processes with `--rdzv-backend=etcd-v3`, on a real etcd."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.etcd_server import EtcdServer

# Three agents and their workers each import torch; on a busy machine that takes minutes.
PATIENCE = 300.0
WORKER = Path(__file__).with_name("worker.py")

pytestmark = pytest.mark.timeout(1200)


class Job:
    """Agents of one run, one worker each."""

    def __init__(self, etcd: EtcdServer, folder: Path) -> None:
        self.folder = folder
        self._etcd = etcd
        self._agents: list[asyncio.subprocess.Process] = []

    async def agent(self, nnodes: str, *, how: str = "alone") -> asyncio.subprocess.Process:
        with (self.folder / f"agent{len(self._agents)}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "torch.distributed.run"),
                f"--nnodes={nnodes}",
                "--nproc-per-node=1",
                "--max-restarts=20",
                "--rdzv-backend=etcd-v3",
                f"--rdzv-endpoint={self._etcd.endpoint}",
                "--rdzv-id=job",
                "--rdzv-conf=lease=2,last_call_timeout=2",
                str(WORKER),
                str(self.folder),
                how,
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        self._agents.append(process)
        return process

    def entered(self) -> list[dict[str, Any]]:
        path = self.folder / "entered"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def round_of(self, *agents: asyncio.subprocess.Process) -> list[dict[str, Any]]:
        """Wait until exactly these agents' workers train together, and return what they said."""
        wanted = {agent.pid for agent in agents}
        async with asyncio.timeout(PATIENCE):
            while True:
                last = self.entered()[-len(agents) :]
                worlds = {line["world"] for line in last}
                if {line["agent"] for line in last} == wanted and worlds == {len(agents)}:
                    assert {line["rank"] for line in last} == set(range(len(agents)))
                    assert len({line["store"] for line in last}) == 1
                    return last
                await asyncio.sleep(0.05)

    async def finish(self, *agents: asyncio.subprocess.Process) -> None:
        """Let the workers end; all agents must say that it went well."""
        (self.folder / "finish").touch()
        async with asyncio.timeout(PATIENCE):
            codes = [await agent.wait() for agent in agents]
        logs = "\n".join(log.read_text() for log in sorted(self.folder.glob("*.log")))
        assert codes == [0] * len(agents), logs

    async def close(self) -> None:
        for agent in self._agents:
            if agent.returncode is None:
                kill_tree(agent.pid)
                await agent.wait()


def kill_tree(pid: int) -> None:
    """As when a machine dies: the agent and its workers, all at once."""
    with suppress(psutil.NoSuchProcess):
        agent = psutil.Process(pid)
        for process in [agent, *agent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture
async def job(etcd: EtcdServer, tmp_path: Path) -> AsyncIterator[Job]:
    job = Job(etcd, tmp_path)
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
