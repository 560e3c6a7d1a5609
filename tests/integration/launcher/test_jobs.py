"""Job files under one agent and under several, on a real service: kills, drains, joins.

Every story ends in the weights of the same job left in peace: one sha256.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.launcher.launching import REMESH, Launcher, wait_for
from trainer.telemetry.files import read_json, read_lines

JOB = """\
model: {preset: debug}
train: {steps: 24, pieces: 4}
elastic:
  nodes: "1:2"
  nproc_per_node: 2
  last_call: 10
  hang_timeout: 300
  grow_interval: 1
  beat_timeout: 10
  reconnect_grace: 3
compile: {enabled: false}
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The sha256 of the weights of the job that nothing happened to."""
    launcher = Launcher(tmp_path_factory.mktemp("undisturbed"))
    (launcher.folder / "job.yaml").write_text(JOB)
    ended = launcher.remesh("job.yaml", "--set", "elastic.nodes=1")
    assert ended.code == 0, ended.err
    root = launcher.run_directory()
    summary = read_json(root / "summary.json")
    assert summary is not None
    check_contract(root, generations=1)
    yield summary["weights_sha256"]
    launcher.close()


def check_contract(root: Path, *, generations: int | None = None) -> dict:
    """What every completed run leaves behind."""
    metrics = list(read_lines(root / "metrics.jsonl"))
    assert [line["step"] for line in metrics] == list(range(1, 25))
    for line in metrics:
        assert {
            "step",
            "loss",
            "grad_norm",
            "lr",
            "tokens",
            "step_seconds",
            "generation",
            "world_size",
            "time",
        } <= line.keys()
    events = list(read_lines(root / "events.jsonl"))
    assert all({"time", "event", "generation", "node", "rank"} <= event.keys() for event in events)
    seen = {event["event"] for event in events}
    assert {
        "run.begin",
        "generation.begin",
        "generation.end",
        "worker.begin",
        "worker.exit",
        "state.restored",
        "checkpoint.commit",
        "run.end",
    } <= seen
    numbers = [e["generation"] for e in events if e["event"] == "generation.begin"]
    assert numbers == sorted(set(numbers))
    begun = {(e["generation"], e["rank"]) for e in events if e["event"] == "worker.begin"}
    logs = {(int(p.parent.name[1:]), int(p.stem[4:])) for p in (root / "logs").glob("g*/*.log")}
    assert begun == logs
    summary = read_json(root / "summary.json")
    assert summary is not None
    assert (summary["status"], summary["steps"]) == ("completed", 24)
    assert summary["final_loss"] == metrics[-1]["loss"]
    assert 0 < summary["goodput"] <= 1
    if generations is not None:
        assert summary["generations"] == len(numbers) == generations
    return summary


def steps(root: Path) -> int:
    return sum(1 for _line in read_lines(root / "metrics.jsonl"))


def begun(root: Path) -> list[dict]:
    return [e for e in read_lines(root / "events.jsonl") if e["event"] == "generation.begin"]


class Crew:
    """A service and agents of one run."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.root = launcher.folder / "runs" / "crew"
        (launcher.folder / "job.yaml").write_text(JOB)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
        self.service = launcher.start(
            [*REMESH, "rendezvous", "serve", "--store", "memory", "--listen", self.endpoint]
        )

    def agent(self, node: str) -> psutil.Popen:
        return self.launcher.start(
            [
                *REMESH,
                *("run", "job.yaml", "--node", node, "--rdzv-id", "crew"),
                *("--rdzv-endpoint", self.endpoint),
            ]
        )

    def events(self, name: str) -> list[dict]:
        return [e for e in read_lines(self.root / "events.jsonl") if e["event"] == name]

    def reach(self, count: int) -> None:
        wait_for(lambda: steps(self.root) >= count, f"{count} steps are done")


@pytest.fixture
def crew(launcher: Launcher) -> Crew:
    return Crew(launcher)


def test_a_killed_worker_costs_no_bits(launcher: Launcher, undisturbed: str) -> None:
    (launcher.folder / "job.yaml").write_text(JOB)
    process = launcher.start([*REMESH, "run", "job.yaml", "--set", "elastic.nodes=1"])
    runs = launcher.folder / "runs"
    wait_for(lambda: runs.exists() and any(runs.iterdir()), "the run directory is there")
    root = launcher.run_directory()
    wait_for(lambda: steps(root) >= 6, "six steps are done")
    workers = [e for e in read_lines(root / "events.jsonl") if e["event"] == "worker.begin"]
    victim = next(e["pid"] for e in workers if e["rank"] == 1)
    survivor = next(e["pid"] for e in workers if e["rank"] == 0)
    psutil.Process(victim).kill()
    ended = launcher.end(process)
    assert ended.code == 0, ended.err
    summary = check_contract(root)
    assert summary["weights_sha256"] == undisturbed
    again = [
        e
        for e in read_lines(root / "events.jsonl")
        if e["event"] == "worker.begin" and e["generation"] == 2
    ]
    assert survivor in {event["pid"] for event in again}
    (exit_event,) = [
        e
        for e in read_lines(root / "events.jsonl")
        if e["event"] == "worker.exit" and e["pid"] == victim
    ]
    assert exit_event["signal"] == "SIGKILL"
    assert not exit_event["expected"]


def test_two_agents_make_one_job(crew: Crew, undisturbed: str) -> None:
    a, b = crew.agent("a"), crew.agent("b")
    codes = [crew.launcher.end(agent) for agent in (a, b)]
    assert [ended.code for ended in codes] == [0, 0], [ended.err for ended in codes]
    summary = check_contract(crew.root, generations=1)
    assert summary["weights_sha256"] == undisturbed
    assert begun(crew.root)[0]["world_size"] == 4
    assert {line["world_size"] for line in read_lines(crew.root / "metrics.jsonl")} == {4}
    status = read_json(crew.root / "status.json")
    assert status is not None
    assert sorted(agent["node"] for agent in status["agents"]) == ["a", "b"]


@pytest.mark.parametrize("lost", ["first", "last"])
def test_a_killed_agent_is_survived(crew: Crew, undisturbed: str, lost: str) -> None:
    agents = {node: crew.agent(node) for node in ("a", "b")}
    crew.reach(6)
    nodes = begun(crew.root)[0]["nodes"]
    victim, other = nodes if lost == "first" else reversed(nodes)
    agents[victim].kill()
    ended = crew.launcher.end(agents[other])
    assert ended.code == 0, ended.err
    assert check_contract(crew.root)["weights_sha256"] == undisturbed
    assert begun(crew.root)[-1]["nodes"] == [other]


def test_a_drained_node_leaves_with_75_and_no_step_is_lost(crew: Crew, undisturbed: str) -> None:
    agents = {node: crew.agent(node) for node in ("a", "b")}
    crew.reach(6)
    agents["b"].send_signal(signal.SIGTERM)
    assert crew.launcher.end(agents["b"]).code == 75
    ended = crew.launcher.end(agents["a"])
    assert ended.code == 0, ended.err
    assert check_contract(crew.root)["weights_sha256"] == undisturbed
    assert "drain" in begun(crew.root)[-1]["reason"]


def test_a_node_that_comes_later_is_taken_in(crew: Crew, undisturbed: str) -> None:
    a = crew.agent("a")
    crew.reach(2)
    # The job stands still until the other node is there, however long its imports take.
    (worker, *_) = [e["pid"] for e in crew.events("worker.begin")]
    psutil.Process(worker).suspend()
    b = crew.agent("b")
    wait_for(
        lambda: any(event["node"] == "b" for event in crew.events("node.spare")), "b waits to enter"
    )
    psutil.Process(worker).resume()
    ended = [crew.launcher.end(agent) for agent in (a, b)]
    assert [e.code for e in ended] == [0, 0], [e.err for e in ended]
    assert check_contract(crew.root)["weights_sha256"] == undisturbed
    assert [event["world_size"] for event in begun(crew.root)] == [2, 4]
    assert [event["nodes"] for event in begun(crew.root)] == [["a"], ["a", "b"]]


def test_notice_to_the_only_node_saves_and_the_next_start_resumes(
    launcher: Launcher, undisturbed: str
) -> None:
    (launcher.folder / "job.yaml").write_text(JOB)
    command = ["run", "job.yaml", "--set", "elastic.nodes=1", "--rdzv-id", "r"]
    process = launcher.start([*REMESH, *command])
    root = launcher.folder / "runs" / "r"
    wait_for(lambda: steps(root) >= 6, "six steps are done")
    process.send_signal(signal.SIGTERM)
    assert launcher.end(process).code == 75
    done = steps(root)
    ended = launcher.remesh(*command[1:])
    assert ended.code == 0, ended.err
    summary = check_contract(root, generations=2)
    assert summary["weights_sha256"] == undisturbed
    assert summary["lost_steps"] == 0
    assert done < 24


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.preset=nothing"], "model.preset"),
        (["train.stepz=3"], "train.steps"),
        (["elastic.nproc_per_node=1", "parallel.tensor=2"], "tensor"),
        (["data.path=nowhere/*.txt"], "nowhere"),
    ],
)
def test_a_wrong_job_ends_with_2(launcher: Launcher, overrides: list[str], words: str) -> None:
    (launcher.folder / "job.yaml").write_text(JOB)
    flags = [word for override in overrides for word in ("--set", override)]
    ended = launcher.remesh("job.yaml", *flags)
    assert ended.code == 2, ended.err
    assert words in ended.err
    assert "Traceback" not in ended.err


def test_the_job_is_kept_as_it_was_resolved(launcher: Launcher) -> None:
    (launcher.folder / "job.yaml").write_text(JOB)
    ended = launcher.remesh(
        "job.yaml", "--set", "train.stop_at=2", "--set", "elastic.nodes=1", "--rdzv-id", "r"
    )
    assert ended.code == 0, ended.err
    root = launcher.folder / "runs" / "r"
    kept = (root / "job.yaml").read_bytes()
    summary = json.loads((root / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("stopped", 2)
    refused = launcher.remesh(
        "job.yaml", "--set", "train.steps=60", "--set", "elastic.nodes=1", "--rdzv-id", "r"
    )
    assert refused.code == 2
    assert "train.steps" in refused.err
    assert (root / "job.yaml").read_bytes() == kept
