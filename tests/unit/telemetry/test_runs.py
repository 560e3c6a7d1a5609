"""How a run directory is read: what is over, what goes on, what was killed; which one is next."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from trainer.telemetry import RunDirectory
from trainer.telemetry.runs import (
    RunRecord,
    last_metrics,
    newest_unfinished,
    read_run,
    runs_below,
)


def make(root: Path, *, steps: int = 0, **status: Any) -> RunDirectory:
    """A run directory with `steps` lines of metrics, and a status where one is given."""
    directory = RunDirectory(root)
    directory.create()
    directory.job.write_text("name: x\n")
    with directory.metrics.open("w") as file:
        for step in range(1, steps + 1):
            file.write(json.dumps({"step": step, "loss": 3.0 - step}) + "\n")
    if status:
        directory.status.write_text(json.dumps({"run_id": root.name, "time": time.time()} | status))
    return directory


def record(root: Path) -> RunRecord:
    found = read_run(root, time.time())
    assert found is not None
    return found


@pytest.mark.parametrize("state", ["completed", "stopped", "drained", "failed"])
def test_a_run_that_is_over_says_so(tmp_path: Path, state: str) -> None:
    make(tmp_path / "a", steps=3, state=state, step=2, total_steps=9)
    found = record(tmp_path / "a")
    assert found.state == state
    assert (found.step, found.total_steps, found.loss) == (3, 9, 0.0)
    assert not found.live


def test_a_run_without_an_agent_is_dead(tmp_path: Path) -> None:
    make(tmp_path / "a", state="running", step=2)
    assert record(tmp_path / "a").state == "dead"


def test_a_run_that_is_held_goes_on_whatever_its_status_says(tmp_path: Path) -> None:
    directory = make(tmp_path / "a", state="drained", step=2)
    directory.lock(alone=True)
    try:
        assert record(tmp_path / "a").live
    finally:
        directory.unlock()
    assert record(tmp_path / "a").state == "drained"


def test_looking_at_a_run_does_not_keep_its_start_out(tmp_path: Path) -> None:
    directory = make(tmp_path / "a", state="drained")
    looker = RunDirectory(tmp_path / "a")
    assert not looker.in_use()
    directory.lock(alone=True)
    directory.unlock()


def test_agents_of_other_hosts_are_believed_for_a_while(tmp_path: Path) -> None:
    make(tmp_path / "a", state="running", rendezvous={"endpoints": ["r:1"]})
    assert record(tmp_path / "a").live
    found = read_run(tmp_path / "a", time.time() + 3600)
    assert found is not None
    assert found.state == "dead"


@pytest.mark.parametrize(
    "status",
    [
        {"state": 7, "step": "many", "time": None, "total_steps": []},
        {"state": "running", "step": True, "time": float("nan"), "rendezvous": []},
        {"state": ["completed"], "rendezvous": {"endpoints": 3}, "run_id": {}},
    ],
)
def test_a_damaged_status_is_a_dead_run(tmp_path: Path, status: dict[str, Any]) -> None:
    make(tmp_path / "a", **status)
    found = record(tmp_path / "a")
    assert found.state == "dead"
    assert found.step == 0


def test_a_directory_without_a_job_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "file").write_text("x")
    assert runs_below(tmp_path) == []
    assert runs_below(tmp_path / "missing") == []


def test_the_last_whole_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_metrics(path) == {}
    path.write_text('{"step": 1}\n{"step": 2}\n[3]\n{"step": 4, "lo')
    assert last_metrics(path) == {"step": 2}


def run(name: str, state: Any, step: int = 5, changed: float = 0.0) -> RunRecord:
    return RunRecord(
        root=Path(name),
        run_id=name,
        state=state,
        step=step,
        total_steps=10,
        loss=None,
        began=0.0,
        changed=changed,
    )


@pytest.mark.parametrize(
    ("runs", "goal", "expected"),
    [
        ([], 10, None),
        ([run("a", "completed", 10)], 10, None),
        ([run("a", "drained", changed=1), run("b", "dead", changed=2)], 10, "b"),
        ([run("a", "failed", changed=3), run("b", "dead", changed=2)], 10, "a"),
        # Somebody trains there now: not ours, and no reason not to take up the other one.
        ([run("a", "going on", changed=3), run("b", "drained", changed=2)], 10, "b"),
        # Stopped where the job says so: only a goal that has moved leaves something to do.
        ([run("a", "stopped", 5)], 5, None),
        ([run("a", "stopped", 5)], 10, "a"),
        ([run("a", "stopped", 5)], None, "a"),
    ],
)
def test_the_newest_unfinished_is_taken(
    runs: list[RunRecord], goal: int | None, expected: str | None
) -> None:
    found = newest_unfinished(runs, goal)
    assert (found and found.run_id) == expected
