"""A real service and real agents of one job, for tests that take parts of them away."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.integration.launcher.launching import REMESH, Ended, Launcher, wait_for
from trainer.telemetry.files import read_json, read_lines

PATIENCE = 900.0
MIRROR_EVERY = 10
STEPS = 200
JOB = f"""\
model: {{preset: debug, dim: 64, layers: 2, ffn_dim: 128, dropout: 0.1}}
data: {{seq_len: 32}}
train: {{steps: {STEPS}, pieces: 8, clip: 1.0}}
elastic:
  mirror_every: {MIRROR_EVERY}
  last_call: 60
  grow_interval: 1
  beat_timeout: 3
  reconnect_grace: 1
  hang_timeout: 300
  max_restarts: 100
  node_failures: 100
checkpoint: {{every: 50}}
compile: {{enabled: false}}
"""


class Crew:
    """`agent` starts a node; `reach` waits for a step; `check` holds the run against its promises.

    `nodes` and `slots` are the job's; `flags` are added to every agent's command line, and `on`
    makes of that line the one that is started. Where `endpoint` is given, the services are there
    already.
    """

    def __init__(
        self,
        launcher: Launcher,
        *flags: str,
        nodes: str = "1:2",
        slots: int = 2,
        job: str = JOB,
        on: Callable[[list[str]], list[str]] = list,
        endpoint: str | None = None,
    ) -> None:
        self._launcher = launcher
        self._on = on
        self.pids: set[int] = set()
        """Of all agents that were ever started."""
        self._flags = [f"--set=elastic.nodes={nodes}", f"--set=elastic.nproc_per_node={slots}"]
        self._flags += flags
        self.root = launcher.folder / "runs" / "crew"
        self.agents: dict[str, psutil.Popen] = {}
        self.ended: dict[str, Ended] = {}
        (launcher.folder / "job.yaml").write_text(job)
        self._service: psutil.Popen | None = None
        if endpoint is not None:
            self.endpoint = endpoint
            return
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
        serve = ("rendezvous", "serve", "--store", "memory", "--listen", self.endpoint)
        self._service = launcher.start([*REMESH, *serve])

    def start(self, *nodes: str, endpoint: str | None = None, flags: Sequence[str] = ()) -> None:
        """One agent a name; `flags` are for these alone."""
        for node in nodes:
            command = ["run", "job.yaml", "--node", node, "--rdzv-id", "crew"]
            command += ["--rdzv-endpoint", endpoint or self.endpoint, *self._flags, *flags]
            self.agents[node] = agent = self._launcher.start(self._on([*REMESH, *command]))
            self.pids.add(agent.pid)

    def take_in(self, *nodes: str) -> None:
        """Start nodes while a run goes on, and see them in.

        The others stand still until these wait to enter, however long their imports take.
        """
        before = {node: self._waits(node) for node in nodes}
        held = list(self.workers().values())
        for worker in held:
            worker.suspend()
        self.start(*nodes)
        wait_for(lambda: all(self._waits(n) > before[n] for n in nodes), f"{nodes} wait to enter")
        for worker in held:
            worker.resume()
        wait_for(lambda: {*nodes} <= {*self.nodes}, f"{nodes} are taken in")

    def _waits(self, node: str) -> int:
        return sum(event["node"] == node for event in self.events("node.spare"))

    def events(self, name: str) -> list[dict[str, Any]]:
        return [e for e in read_lines(self.root / "events.jsonl") if e["event"] == name]

    @property
    def step(self) -> int:
        """The last step that was counted."""
        return max((line["step"] for line in read_lines(self.root / "metrics.jsonl")), default=0)

    @property
    def generation(self) -> dict[str, Any]:
        """The newest generation's beginning."""
        return self.events("generation.begin")[-1]

    @property
    def number(self) -> int:
        """The newest generation's."""
        return int(self.generation["generation"])

    @property
    def nodes(self) -> list[str]:
        """Of the newest generation, in rank order; empty before the first."""
        begun = self.events("generation.begin")
        return list(begun[-1]["nodes"]) if begun else []

    def reach(self, step: int) -> None:
        wait_for(lambda: self.step >= step, f"step {step} is done")

    def workers(self) -> dict[int, psutil.Process]:
        """Who had which rank last."""
        begun = {e["rank"]: e for e in sorted(self.events("worker.begin"), key=_generation)}
        newest = max(e["generation"] for e in begun.values())
        return {
            rank: psutil.Process(e["pid"])
            for rank, e in begun.items()
            if e["generation"] == newest and psutil.pid_exists(e["pid"])
        }

    def wait_for_generation(self, number: int, *, ranks: int = 4) -> None:
        """Until it, or a later one, has a worker for every rank."""
        wait_for(
            lambda: self.number >= number and len(self.workers()) == ranks,
            f"generation {number} has its {ranks} workers",
        )

    def kill(self, *ranks: int) -> None:
        """SIGKILL to the workers of these ranks."""
        workers = self.workers()
        for rank in ranks:
            workers[rank].kill()

    def kill_node(self, node: str) -> None:
        """SIGKILL to the agent; the kernel takes its workers with it."""
        self.agents.pop(node).kill()

    def drain(self, node: str) -> Ended:
        """SIGTERM to the agent, and how it ended."""
        self.agents[node].send_signal(signal.SIGTERM)
        return self.see_off(node)

    def see_off(self, node: str) -> Ended:
        """Wait for an agent that is to end; how it did."""
        return self._launcher.end(self.agents.pop(node))

    def end(self) -> dict[str, Any]:
        """Wait until every agent that is left has ended well; the run's summary."""
        for node, agent in self.agents.items():
            self.ended[node] = self._launcher.end(agent, PATIENCE)
        codes = {node: ended.code for node, ended in self.ended.items()}
        assert set(codes.values()) == {0}, {n: e.err for n, e in self.ended.items()}
        summary = read_json(self.root / "summary.json")
        assert summary is not None
        return summary

    def check(self, sha256: str, *, lost_steps: int, steps: int = STEPS) -> dict[str, Any]:
        """The run ends, each step counted once, in these weights, with no more steps lost."""
        summary = self.end()
        counted = [line["step"] for line in read_lines(self.root / "metrics.jsonl")]
        assert counted == list(range(1, steps + 1))
        numbers = [e["generation"] for e in self.events("generation.begin")]
        assert numbers == sorted(set(numbers)), numbers
        assert (summary["status"], summary["steps"]) == ("completed", steps)
        assert summary["weights_sha256"] == sha256, self.story()
        assert summary["lost_steps"] <= lost_steps, self.story()
        self.check_nothing_is_left()
        return summary

    def connections(self) -> int:
        """How many clients the service has."""
        assert self._service is not None
        established = self._service.net_connections("tcp")
        return sum(c.status == psutil.CONN_ESTABLISHED for c in established)

    def check_nothing_is_left(self) -> None:
        """No process that the run began is still there."""
        wait_for(lambda: not self._processes(), f"everything ends: {self._processes()}")

    def story(self) -> str:
        """Generations, restores and ends, a line each."""
        told = ("generation.begin", "state.restored", "worker.exit", "step.skipped", "node.drain")
        events = read_lines(self.root / "events.jsonl")
        return "\n".join(str(event) for event in events if event["event"] in told)

    def _processes(self) -> list[psutil.Process]:
        return [
            process
            for process in psutil.process_iter(["cwd"])
            if process.info["cwd"] == str(self._launcher.folder)
            and (self._service is None or process.pid != self._service.pid)
            and process.status() != psutil.STATUS_ZOMBIE
        ]


def _generation(event: dict[str, Any]) -> int:
    return int(event["generation"])


def undisturbed(folder: Path, *flags: str, job: str = JOB, slots: int = 4) -> dict[str, Any]:
    """The summary of the same job that nothing happens to, on one node."""
    launcher = Launcher(folder)
    (folder / "job.yaml").write_text(job)
    ended = launcher.remesh("job.yaml", "--set", f"elastic.nproc_per_node={slots}", *flags)
    assert ended.code == 0, ended.err
    summary = read_json(launcher.run_directory() / "summary.json")
    assert summary is not None
    launcher.close()
    return summary
