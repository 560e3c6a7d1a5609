"""What a job's own failures cost it, and what others do to it does not."""

from __future__ import annotations

import pytest

from tests.integration.launcher.crew import Crew, job
from tests.integration.launcher.launching import Launcher
from trainer.telemetry.files import read_json, read_lines

SMALL = {"steps": 12}


def faults(*texts: str) -> list[str]:
    return [word for text in texts for word in ("--fault", text)]


def test_a_step_that_always_fails_ends_the_job_with_the_evidence_first(launcher: Launcher) -> None:
    Crew(launcher, job(elastic={"nodes": "1", "max_restarts": 9, "node_failures": 9}, train=SMALL))
    ended = launcher.remesh(
        "job.yaml", "--rdzv-id", "r", *faults("step=5,rank=1,kind=raise,times=9")
    )
    assert ended.code == 1
    greeting, *lines = ended.err.splitlines()
    assert greeting.startswith("remesh: run r in ")
    assert lines[0].startswith("first failure: rank 1 (local rank 1")
    told = next(line for line in lines if line.startswith("remesh: failed: "))
    assert "step 4 has failed 3 times" in told
    assert told.count("a fault that the job asked for") == 3
    assert "RuntimeError: a fault that the job asked for" in ended.err
    assert ended.err.index("RuntimeError") < ended.err.index("remesh: failed")
    root = launcher.folder / "runs" / "r"
    assert [line["step"] for line in read_lines(root / "metrics.jsonl")] == [1, 2, 3, 4]
    summary = read_json(root / "summary.json")
    assert summary is not None
    # Those that began a generation; the third ended the run.
    assert (summary["status"], summary["restarts"]) == ("failed", 2)


@pytest.mark.slow
def test_the_budget_is_for_failures_of_the_jobs_own(launcher: Launcher) -> None:
    """Two exceptions in different places are one too many; the kills between them are not."""
    Crew(launcher, job(elastic={"nodes": "1", "max_restarts": 1}, train=SMALL))
    ended = launcher.remesh(
        "job.yaml",
        *("--rdzv-id", "r"),
        *faults(
            "step=2,rank=0,kind=kill",
            "step=3,rank=1,kind=raise",
            "step=5,rank=0,kind=kill",
            "step=7,rank=1,kind=kill",
            "step=9,rank=0,kind=exit,code=3",
        ),
    )
    assert ended.code == 1
    assert "that is failure 2 of the job's own making, max_restarts is 1" in ended.err
    root = launcher.folder / "runs" / "r"
    restarts = [
        event["restarts"]
        for event in read_lines(root / "events.jsonl")
        if event["event"] == "generation.begin"
    ]
    assert restarts == [0, 0, 1, 1, 1]


@pytest.mark.slow
def test_a_node_that_keeps_failing_is_set_aside_and_the_others_go_on(launcher: Launcher) -> None:
    crew = Crew(
        launcher,
        job(elastic={"nodes": "1:2", "nproc_per_node": 1, "node_failures": 2}, train=SMALL),
    )
    bad = faults("step=4,node=b,kind=exit,code=3", "step=8,node=b,kind=exit,code=3")
    agents = {node: crew.agent(node, *bad) for node in "ab"}
    ended = {node: launcher.end(agent) for node, agent in agents.items()}
    assert ended["a"].code == 0, ended["a"].err
    assert ended["b"].code == 1
    assert "node b was set aside: its workers failed 2 times" in ended["b"].err
    assert "\nfirst failure: rank " in ended["b"].err
    assert crew.members()[-1] == ["a"]
    assert crew.steps() == list(range(1, 13))
