"""More steps for a run than it was begun with: `remesh resume RUN --steps N`."""

from __future__ import annotations

import platform
import time

from trainer.command.earlier_run import newest_version
from trainer.errors import JobError
from trainer.job import Job, dump
from trainer.telemetry import RunDirectory
from trainer.telemetry.files import LineFile, read_json, replace
from trainer.telemetry.runs import RunRecord

EVENT = "run.extended"


def extended(job: Job, steps: int, run: RunRecord) -> Job:
    """The job that ends with step `steps`. Pure.

    Up to `train.steps` that is another `train.stop_at`, and no learning rate changes; beyond it
    `train.steps` grows, which only a run that is complete may do: what is not would do some steps
    again, at other learning rates than those on record. Raises JobError.
    """
    if not job.trains:
        raise JobError(
            f"run {run.run_id} is a loop of its own, which knows its steps by itself: change them "
            "there, and start it again"
        )
    if steps <= run.step:
        raise JobError(f"--steps is {steps}, and run {run.run_id} has done {run.step} already")
    if steps <= job.train.steps:
        change: dict[str, int | None] = {"stop_at": steps if steps < job.train.steps else None}
    elif run.state == "completed":
        change = {"steps": steps, "stop_at": None}
    else:
        raise JobError(
            f"run {run.run_id} has not done its {job.train.steps} steps yet ({run.state}, step "
            f"{run.step}); `remesh resume {run.run_id}` does, and then there may be more"
        )
    return job.model_copy(update={"train": job.train.model_copy(update=change)})


def extend(directory: RunDirectory, job: Job, steps: int, run: RunRecord) -> None:
    """Write the job with its new end into the run directory, and what that changes on record.

    Raises JobError where that can't be, with nothing changed.
    """
    longer = extended(job, steps, run)
    if longer.train.steps != job.train.steps:
        saved = newest_version(job, directory.root)
        if saved != run.step:
            newest = "there is no checkpoint" if saved is None else f"the newest is of step {saved}"
            raise JobError(
                f"run {run.run_id} can't go on behind step {run.step}, which is not saved: {newest}"
            )
    directory.lock(alone=True)
    try:
        if longer.train.steps != job.train.steps:
            _tell(directory, job.train.steps, longer.train.steps, run.step)
        replace(directory.job, dump(longer))
    except OSError as error:
        raise directory.unwritable(error) from error
    finally:
        directory.unlock()


def _tell(directory: RunDirectory, before: int, steps: int, done: int) -> None:
    generation = (read_json(directory.status) or {}).get("generation", 0)
    head = {"time": time.time(), "event": EVENT, "generation": generation}
    events = LineFile(directory.events)
    try:
        events.append(
            head
            | {"node": platform.node(), "rank": None, "step": done}
            | {"before": before, "steps": steps}
        )
    finally:
        events.close()
