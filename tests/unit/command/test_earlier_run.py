"""Which earlier run a start goes on with, and what it says of that."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.command.earlier_run import EarlierRun, described, earlier_run, new_run_id
from trainer.command.job_launch import launch_of
from trainer.command.run import parse
from trainer.errors import JobError
from trainer.job import Job, dump, from_mapping
from trainer.telemetry import RunDirectory
from trainer.telemetry.runs import RunRecord, State


def job(folder: Path, *overrides: str) -> Job:
    described = {"name": "x", "model": {"preset": "debug"}, "elastic": {"nproc_per_node": 1}}
    return from_mapping(described, [f"run.directory={folder}", *overrides], source="job.yaml")


def leave(of: Job, run_id: str, *, state: str = "drained", age: float = 0.0) -> None:
    """What a run of this job leaves behind."""
    directory = RunDirectory(Path(of.run.directory) / run_id)
    directory.create()
    directory.job.write_text(dump(of))
    status = {"run_id": run_id, "state": state, "step": 30, "time": time.time() - age}
    directory.status.write_text(json.dumps(status))


def test_the_same_content_is_the_same_job(tmp_path: Path) -> None:
    leave(job(tmp_path, "elastic.nproc_per_node=4"), "mesh", age=10)
    leave(job(tmp_path, "run.seed=1"), "seed")
    leave(job(tmp_path, "train.steps=7"), "steps")
    leave(job(tmp_path), "done", state="completed")
    found = earlier_run(job(tmp_path))
    assert found is not None
    assert found.run.run_id == "mesh"


def test_what_is_no_run_is_passed_over(tmp_path: Path) -> None:
    leave(job(tmp_path), "damaged")
    (tmp_path / "damaged" / "job.yaml").write_text("{")
    (tmp_path / "file").write_text("")
    assert earlier_run(job(tmp_path)) is None


@pytest.mark.parametrize("told", ["../../elsewhere", "another", "..", 7, None])
def test_a_run_goes_on_in_its_own_directory(tmp_path: Path, told: object) -> None:
    leave(job(tmp_path), "first")
    status = tmp_path / "first" / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"run_id": told}))
    found = earlier_run(job(tmp_path))
    assert found is None or found.run.run_id == "first"


def record(state: State, step: int) -> RunRecord:
    return RunRecord(
        root=Path("r"),
        run_id="r",
        state=state,
        step=step,
        total_steps=50,
        loss=None,
        began=0.0,
        changed=0.0,
    )


@pytest.mark.parametrize(
    ("step", "saved", "expected"),
    [
        (30, 30, "step 30 of 50: from the checkpoint of step 30; --fresh"),
        (31, 30, "step 31 of 50: from the checkpoint of step 30, 1 step to do again; --fresh"),
        (40, 30, "10 steps to do again"),
        (0, None, "step 0 of 50: no checkpoint, so from the start"),
    ],
)
def test_it_says_what_it_takes_up(step: int, saved: int | None, expected: str) -> None:
    assert expected in EarlierRun(run=record("dead", step), saved=saved).line(fresh=True)


def test_a_new_run_has_a_name_of_its_own(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        name = new_run_id(job(tmp_path))
        (tmp_path / name).mkdir()
        names.add(name)
    assert len(names) == 3


def parsed(*arguments: str) -> argparse.Namespace:
    return parse([*arguments, "job.yaml"])


def test_an_unfinished_run_is_taken_up_unless_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(job(tmp_path), "before")
    assert launch_of(job(tmp_path), parsed()).run_id == "before"
    assert "going on with run before (drained), step 30" in capsys.readouterr().err
    assert launch_of(job(tmp_path), parsed("--fresh")).run_id.startswith("x-")
    assert launch_of(job(tmp_path, "run.id=mine"), parsed()).run_id == "mine"
    with pytest.raises(JobError, match="--fresh"):
        launch_of(job(tmp_path, "run.id=mine"), parsed("--fresh"))


def test_a_run_that_never_said_its_steps_has_those_of_its_job(tmp_path: Path) -> None:
    run = replace(record("dead", 3), root=tmp_path, total_steps=None)
    assert "(dead), step 3 of 40: " in described(run, job(tmp_path, "train.steps=40")).line(
        fresh=True
    )
