"""Which earlier run a start goes on with, where nobody named one, and what that means in steps.

The same job file started twice is one run: a supervisor that starts it again after an exit with 75,
and a person who does what the last line said, both mean that. A job is known by its content, as
`same_job` compares it, so that a copy or another name of the file changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.command.same_job import differences
from trainer.errors import CheckpointDamaged, CheckpointError, JobError
from trainer.job import Job, dump
from trainer.job.reading import read_text
from trainer.telemetry.runs import RunRecord, newest_unfinished, runs_below


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierRun:
    """A run to go on with. `saved`: its newest checkpoint's version, None where there is none."""

    run: RunRecord
    saved: int | None

    def line(self, *, fresh: bool) -> str:
        """What is taken up, from where, and what has to be done again.

        `fresh`: whether --fresh would start anew instead.
        """
        run = self.run
        of = f" of {run.total_steps}" if run.total_steps else ""
        told = f"going on with run {run.run_id} ({run.state}), step {run.step}{of}: "
        if self.saved is None:
            told += "no checkpoint, so from the start"
        else:
            again = max(0, run.step - self.saved)
            told += f"from the checkpoint of step {self.saved}"
            told += f", {again} step{'s' * (again != 1)} to do again" if again else ""
        return f"{told}; --fresh starts anew" if fresh else told


def earlier_run(job: Job) -> EarlierRun | None:
    """The newest unfinished run of this job in its place; None where there is none."""
    text = dump(job)
    same = [
        run
        for run in runs_below(Path(job.run.directory).expanduser())
        # A copy under another name is no run of its own: it would go on in the first one's place.
        if run.run_id == run.root.name and _is_of(run, text)
    ]
    found = newest_unfinished(same, goal_of(job))
    return None if found is None else described(found, job)


def described(run: RunRecord, job: Job) -> EarlierRun:
    """`run`, with what storage holds of it."""
    if run.total_steps is None and job.trains:
        # Its status is written now and then: one that was killed at once may never have said it.
        run = replace(run, total_steps=job.train.steps)
    return EarlierRun(run=run, saved=newest_version(job, run.root) if job.saves else None)


def goal_of(job: Job) -> int | None:
    """The step at which the job is done; None where only its loop knows."""
    return (job.train.stop_at or job.train.steps) if job.trains else None


def new_run_id(job: Job) -> str:
    """The job's name and the time, and a number where that is taken."""
    stem = f"{job.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (stem, *(f"{stem}-{number}" for number in range(2, 1000)))
    return next(
        name for name in names if not (Path(job.run.directory).expanduser() / name).exists()
    )


def newest_version(job: Job, root: Path) -> int | None:
    """Of the newest checkpoint that can be read; None where there is none."""
    from trainer.checkpoint import log
    from trainer.checkpoint.catalog import directory_store

    try:
        store = directory_store(
            job.checkpoint.directory or str(root), job.checkpoint.storage_options
        )
        found = (summary for _, summary in log.summaries(store))
        return next((s.version for s in found if not isinstance(s, CheckpointDamaged)), None)
    except (JobError, CheckpointError):
        return None


def _is_of(run: RunRecord, text: str) -> bool:
    try:
        return not differences(read_text(run.root / "job.yaml"), text)
    except JobError:
        return False
