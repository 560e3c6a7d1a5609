"""Which runs may be given more steps, and what of their job changes with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from trainer.command.extension import extended
from trainer.errors import JobError
from trainer.job import Job, from_mapping
from trainer.telemetry.runs import RunRecord

DONE = RunRecord(
    root=Path("runs/a"),
    run_id="a",
    state="completed",
    step=50,
    total_steps=50,
    loss=1.0,
    began=0.0,
    changed=0.0,
)


def job(**train: object) -> Job:
    return from_mapping({"name": "a", "model": {"preset": "debug"}, "train": {"steps": 50} | train})


def test_a_complete_run_may_go_on() -> None:
    longer = extended(job(), 80, DONE)
    assert (longer.train.steps, longer.train.stop_at) == (80, None)


@pytest.mark.parametrize(("steps", "stop_at"), [(30, 30), (50, None)])
def test_within_its_steps_only_the_stop_moves(steps: int, stop_at: int | None) -> None:
    stopped = replace(DONE, state="stopped", step=20)
    longer = extended(job(stop_at=20), steps, stopped)
    assert (longer.train.steps, longer.train.stop_at) == (50, stop_at)


@pytest.mark.parametrize(
    ("run", "steps", "why"),
    [
        (DONE, 50, "has done 50 already"),
        (replace(DONE, state="dead", step=40), 80, "has not done its 50 steps yet"),
    ],
)
def test_what_would_change_done_steps_is_refused(run: RunRecord, steps: int, why: str) -> None:
    with pytest.raises(JobError, match=why):
        extended(job(), steps, run)


def test_a_loop_of_its_own_knows_its_steps() -> None:
    own = from_mapping({"name": "a", "entrypoint": {"script": "x.py", "elastic": True}})
    with pytest.raises(JobError, match="knows its steps by itself"):
        extended(own, 80, DONE)
