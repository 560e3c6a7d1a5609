"""One job on the cluster of processes, started and changed by the commands that a user has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.integration.deploy.cluster import Cluster
from tests.integration.deploy.kubelet import Pod
from trainer.deploy import cli

STEPS = 240


def description(name: str, hold: Path, nodes: str = "1:4", **kubernetes: Any) -> dict[str, Any]:
    """A small job for a slow machine: patient where a cluster's would not be."""
    length = 33
    return {
        "name": name,
        "model": {"preset": "debug", "dim": 32, "layers": 2, "heads": 2, "dropout": 0.1},
        "data": {
            "factory": "tests.integration.deploy.paced:samples",
            "args": {"length": length, "hold": str(hold)},
            "seq_len": length - 1,
        },
        "train": {"steps": STEPS, "pieces": 4, "clip": 0.5},
        "checkpoint": {"every": 50},
        "elastic": {
            "nodes": nodes,
            "nproc_per_node": 1,
            "mirror_every": 5,
            "beat_timeout": 15,
            "reconnect_grace": 2,
            "grow_interval": 1,
            "drain_grace": 60,
        },
        "kubernetes": {
            "grace_period": 65,
            "volumes": [{"name": "runs", "mount": "/var/lib/remesh", "claim": f"{name}-runs"}],
            **kubernetes,
        },
    }


class Site:
    """The job `name`. As long as `hold` is there its steps are slow, so that things can happen."""

    def __init__(self, cluster: Cluster, folder: Path, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self._folder = folder
        self._hold = folder / "hold"
        self._holder = self._handle = ("Job", name)

    def remesh(self, *words: object) -> None:
        """A command of the user's, which has to go well."""
        command, *rest = map(str, words)
        code = cli.main([command, *rest])
        assert code == 0, f"remesh {' '.join(map(str, words))} ended with {code}"

    def submit(self, target: str, nodes: int, **kubernetes: Any) -> None:
        """Submit it, and have it begin with so many nodes."""
        path = self._folder / "job.yaml"
        most = f"1:{nodes if target == 'jobset' else 4}"
        path.write_text(yaml.safe_dump(description(self.name, self._hold, most, **kubernetes)))
        self._hold.touch()
        if target == "spot":
            self._holder = ("Deployment", f"{self.name}-agents")
        if target == "jobset":
            self._holder, self._handle = ("Job", f"{self.name}-agents-0"), ("JobSet", self.name)
        self.remesh("submit", path, "--target", target, "--no-follow", "--run-id", self.name)
        if target != "jobset":  # a set's Jobs keep the size they were made with
            self.scale(nodes)

    def scale(self, nodes: int) -> None:
        self.remesh("scale", self.name, "--nodes", nodes)

    def release(self) -> None:
        """From now on the steps are as fast as they can be."""
        self._hold.unlink(missing_ok=True)

    def remove(self) -> None:
        """The job and its pods go, without grace."""
        for pod in self.agents:
            pod.kill()
        for kind, name in list(self.cluster.world.objects):
            if name.startswith(self.name) and kind != "Pod":
                del self.cluster.world.objects[kind, name]

    # What can be seen of it

    @property
    def agents(self) -> list[Pod]:
        return sorted(self.cluster.of(*self._holder), key=lambda pod: pod.name)

    @property
    def run(self) -> Path:
        return self.cluster.world.claim(f"{self.name}-runs") / "runs" / self.name

    def step(self) -> int:
        lines = self.lines("metrics.jsonl")
        return int(lines[-1]["step"]) if lines else 0

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.run / name
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def generations(self) -> list[dict[str, Any]]:
        return [one for one in self.lines("events.jsonl") if one["event"] == "generation.begin"]

    def world_size(self) -> int:
        begun = self.generations()
        return int(begun[-1]["world_size"]) if begun else 0

    # Waiting

    def train_on(self, nodes: int) -> None:
        """Until the job runs on so many nodes, all of them ready, and has made a step there."""
        self.cluster.until(
            lambda: (
                self.world_size() == nodes
                and len(self.agents) == nodes
                and all(pod.ready for pod in self.agents)
            ),
            f"{nodes} nodes that are in a generation",
        )
        self.progress(1)

    def progress(self, steps: int) -> None:
        wanted = self.step() + steps
        assert wanted < STEPS, "the job is over too soon"
        self.cluster.until(lambda: self.step() >= wanted, f"step {wanted}")

    def finish(self) -> dict[str, Any]:
        """Let it run to its end; the summary, and the object to wait for is complete."""
        self.release()
        summary = self.run / "summary.json"

        def done() -> bool:
            return summary.exists() and json.loads(summary.read_text())["status"] == "completed"

        self.cluster.until(done, "the end of the job")
        self.cluster.until(
            lambda: self.cluster.state(*self._handle) == "completed" and not self.agents,
            "a handle that is complete, without agents",
        )
        self.remesh("status", self.name)
        found: dict[str, Any] = json.loads(summary.read_text())
        return found

    def ending(self, pod: Pod) -> tuple[int, str]:
        """How the pod ended and what its policy made of it, once it has."""
        self.cluster.until(
            lambda: any(one.pod == pod.name for one in self.cluster.endings), f"{pod.name} to end"
        )
        found = next(one for one in self.cluster.endings if one.pod == pod.name)
        return found.code, found.action
