"""Remesh: a rendezvous service of its own, and an agent a node."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.elastic.crew import free_port, kill, kill_tree
from benchmarks.elastic.job import CHECKPOINT_EVERY, NODES
from benchmarks.elastic.system import System
from benchmarks.elastic.timeline import Stamp, stages

NAMES = ("first", "second")


class Remesh(System):
    """Its own record of the run is what is measured."""

    flags: tuple[str, ...] = ()

    def start(self) -> None:
        self._clock = time.time() - time.monotonic()
        self._endpoint = f"127.0.0.1:{free_port()}"
        command = [self.python, "-m", "trainer.command", "rendezvous", "serve"]
        self.crew.start("rendezvous", [*command, "--store=memory", f"--listen={self._endpoint}"])
        self._agents = [self._agent(name) for name in NAMES]

    def _agent(self, name: str) -> subprocess.Popen[bytes]:
        command = [self.python, "-m", "trainer.command", "run", str(self.job), "--node", name]
        command += ["--rdzv-id", "run", "--rdzv-endpoint", self._endpoint]
        command += ["--set", f"run.directory={self.crew.room}", *self.flags]
        return self.crew.start(name, command)

    def kill_worker(self) -> float:
        mine = [w for w in self._parts()[NAMES[1]]["workers"] if w["rank"] is not None]
        return kill(max(mine, key=lambda worker: worker["rank"])["pid"])

    def kill_node(self) -> float:
        return kill_tree(self._agents[1].pid)

    def return_node(self) -> None:
        self._agents[1] = self._agent(NAMES[1])

    def drain_node(self) -> float:
        at = time.monotonic()
        self._agents[1].send_signal(signal.SIGTERM)
        return at

    def spare_ready(self) -> bool:
        parts = self._parts()
        return len(parts) == NODES and all(
            any(worker["state"] == "standby" for worker in part["workers"])
            for part in parts.values()
        )

    def stamps(self) -> list[Stamp]:
        first = [
            Stamp(e["time"], e["step"], 0, str(e["generation"]))
            for e in self._events()
            if e["event"] == "generation.stepped"
        ]
        # A step that survivors only took up (it took no time) was done before.
        counted = [
            Stamp(m["time"] - self._clock, m["step"], m["world_size"], str(m["generation"]))
            for m in self._lines(self.crew.room / "run" / "metrics.jsonl")
            if m["step_seconds"]
        ]
        return first + counted

    def stages(self, at: float) -> dict[str, float] | None:
        return stages(self._events(), self.stamps(), at)

    def _events(self) -> list[dict[str, Any]]:
        events = self._lines(self.crew.room / "run" / "events.jsonl")
        return [event | {"time": event["time"] - self._clock} for event in events]

    def _parts(self) -> dict[str, dict[str, Any]]:
        folder = Path(self.crew.room, "run", "agents")
        return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


class RemeshReplicas(Remesh):
    """The same with two replicas of the sharded model: what one rank holds, another does too."""

    flags = ("--set", "parallel.replicate=2")


class RemeshSeldom(Remesh):
    """The same with mirrors as seldom as checkpoints: what is lost is what the peers lose."""

    flags = ("--set", f"elastic.mirror_every={CHECKPOINT_EVERY}")
