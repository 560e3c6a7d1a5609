"""A service and the agents of one run, as people would start them on several machines."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import psutil
import yaml

from rendezvous.address import join_endpoint
from tests.integration.launcher.launching import REMESH, Launcher, wait_for
from trainer.telemetry.files import read_json, read_lines

JOB: dict[str, Any] = {
    "model": {"preset": "debug"},
    "train": {"steps": 24, "pieces": 4},
    "elastic": {
        "nodes": "1:2",
        "nproc_per_node": 2,
        "last_call": 10,
        "hang_timeout": 300,
        "grow_interval": 1,
        "beat_timeout": 10,
        "reconnect_grace": 3,
    },
    "compile": {"enabled": False},
}


def job(**sections: dict[str, Any]) -> dict[str, Any]:
    """The small job, with some keys of its sections changed."""
    changed = {name: {**JOB.get(name, {}), **keys} for name, keys in sections.items()}
    return {**JOB, **changed}


class Crew:
    """A service and agents of one run; every agent finds the job in `job.yaml`."""

    def __init__(
        self,
        launcher: Launcher,
        description: dict[str, Any],
        *,
        host: str = "127.0.0.1",
        store: str = "memory",
    ) -> None:
        self.launcher = launcher
        self.root = launcher.folder / "runs" / "crew"
        (launcher.folder / "job.yaml").write_text(yaml.safe_dump(description))
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as probe:
            self.endpoint = join_endpoint(host, probe.getsockname()[1])
        self._store = store
        self.service = self.serve()

    def serve(self) -> psutil.Popen:
        """Start the service, or one more at the same place when the first is gone."""
        return self.launcher.start(
            [*REMESH, "rendezvous", "serve", "--store", self._store, "--listen", self.endpoint]
        )

    def agent(self, node: str, *flags: str) -> psutil.Popen:
        return self.launcher.start(self.agent_command(node, *flags))

    def agent_command(self, node: str, *flags: str) -> list[str]:
        return [
            *REMESH,
            *("run", "job.yaml", "--node", node, "--rdzv-id", "crew"),
            *("--rdzv-endpoint", self.endpoint, *flags),
        ]

    def command(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of `remesh …`."""
        ended = self.launcher([*REMESH, *words])
        return ended.code, ended.out, ended.err

    def events(self, name: str) -> list[dict[str, Any]]:
        return [e for e in read_lines(self.root / "events.jsonl") if e["event"] == name]

    def summary(self) -> dict[str, Any]:
        found = read_json(self.root / "summary.json")
        assert found is not None
        return found

    def steps(self) -> list[int]:
        return [line["step"] for line in read_lines(self.root / "metrics.jsonl")]

    def reach(self, count: int) -> None:
        wait_for(lambda: len(self.steps()) >= count, f"{count} steps are done")

    def members(self) -> list[list[str]]:
        """The nodes of each generation so far."""
        return [event["nodes"] for event in self.events("generation.begin")]

    def await_members(self, *nodes: str) -> None:
        wait_for(
            lambda: bool(self.members()) and sorted(self.members()[-1]) == sorted(nodes),
            f"a generation of {', '.join(nodes)}",
        )


def committed(root: Path) -> list[int]:
    """The versions in a run's checkpoint directory, newest first."""
    from trainer.checkpoint import log
    from trainer.checkpoint.manifest import Summary
    from trainer.checkpoint.store import open_store

    found = log.summaries(open_store(root / "checkpoints"))
    return [summary.version for _, summary in found if isinstance(summary, Summary)]
