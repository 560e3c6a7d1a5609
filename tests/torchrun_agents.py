"""Agents of plain torchrun, one worker each, as processes for tests to kill."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

# Three agents and their workers each import torch; on a busy machine that takes minutes.
PATIENCE = 300.0
WORKER = Path(__file__).parent / "integration" / "torchrun" / "worker.py"


class Job:
    """Agents of one run, one worker each. `conf` is what --rdzv-conf says."""

    def __init__(self, backend: str, endpoint: str, conf: str, folder: Path) -> None:
        self.folder = folder
        self._backend, self._endpoint, self._conf = backend, endpoint, conf
        self._agents: list[asyncio.subprocess.Process] = []

    async def agent(self, nnodes: str, *, how: str = "alone") -> asyncio.subprocess.Process:
        with (self.folder / f"agent{len(self._agents)}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "torch.distributed.run"),
                f"--nnodes={nnodes}",
                "--nproc-per-node=1",
                "--max-restarts=20",
                f"--rdzv-backend={self._backend}",
                f"--rdzv-endpoint={self._endpoint}",
                "--rdzv-id=job",
                f"--rdzv-conf={self._conf}",
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
        assert codes == [0] * len(agents), self.log

    @property
    def log(self) -> str:
        """What all agents and workers said."""
        return "\n".join(log.read_text() for log in sorted(self.folder.glob("*.log")))

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
