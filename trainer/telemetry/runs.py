"""The runs below a directory: how each stands, and which one a start of the same job goes on with.

A run that is over says so in its status. One that does not say so is going on while some agent
holds its lock; otherwise all of it was killed, and nobody was left to write that down.
"""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.errors import JobError
from trainer.names import RUN_ID
from trainer.outside.document import loads
from trainer.outside.shapes import checked
from trainer.telemetry.directory import RunDirectory
from trainer.telemetry.documents import METRIC, PART
from trainer.telemetry.files import read_json
from trainer.telemetry.status import find_run, read_status

State = Literal["going on", "completed", "stopped", "drained", "failed", "dead"]

OVER = ("completed", "stopped", "drained", "failed")
"""What a status says of a run that is over, as `State` has it."""
TAIL_BYTES = 64 << 10
"""A line of metrics is some 300 bytes; so much of the file's end holds the last whole one."""
FRESH_SECONDS = 60.0
"""A status is written twice a second; where several hosts share a run, a younger one than this is
believed, as a lock of another host need not be seen here (a network file system may keep it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run directory at a glance.

    `step` is the last one that counted, of `total_steps` where that is known; `began` and
    `changed` are seconds since the epoch: when the run directory was made, and when its agents
    last wrote.
    """

    root: Path
    run_id: str
    state: State
    step: int
    total_steps: int | None
    loss: float | None
    began: float
    changed: float

    @property
    def live(self) -> bool:
        """Whether some agent takes part in it now."""
        return self.state == "going on"

    def unfinished(self, goal: int | None) -> bool:
        """Whether there is something left to do up to step `goal` (None: a goal nobody knows)."""
        if self.state == "completed":
            return False
        if self.state == "stopped":
            # By an operator, or where its job asked for it: then only a goal that moved is more.
            return goal is None or self.step < goal
        return True


def newest_unfinished(runs: Iterable[RunRecord], goal: int | None) -> RunRecord | None:
    """The run that a new start of their job goes on with; None where there is none. Pure.

    Runs that are going on are left alone, whatever their age.
    """
    left = [run for run in runs if not run.live and run.unfinished(goal)]
    return max(left, key=lambda run: (run.changed, run.run_id), default=None)


def read_run(root: Path, now: float) -> RunRecord | None:
    """How the run in `root` stands; None where no run has begun there."""
    directory = RunDirectory(root)
    if not directory.job.is_file():
        return None
    try:
        status = read_status(root) or {}
    except ValueError:
        # Of a run among others; who asks for this one alone is told what is wrong with it.
        status = {}
    told = status.get("run_id")
    last = last_metrics(directory.metrics)
    return RunRecord(
        root=root,
        run_id=told if isinstance(told, str) and RUN_ID.fits(told) else root.name,
        state=_state(status, directory, now),
        step=max(last.get("step") or 0, status.get("step") or 0),
        total_steps=status.get("total_steps") or None,
        loss=_finite(last.get("loss")),
        began=status.get("began") or directory.job.stat().st_mtime,
        changed=status.get("time") or directory.job.stat().st_mtime,
    )


def runs_below(folder: Path) -> list[RunRecord]:
    """Every run directly below `folder`, the one that changed last first."""
    now = time.time()
    roots = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [run for root in roots if (run := read_run(root, now)) is not None]
    return sorted(found, key=lambda run: (run.changed, run.run_id), reverse=True)


def named_run(word: str, runs: Path = Path("runs")) -> Path:
    """A run's directory, from its path or its id. Raises JobError, with the nearest id there is."""
    root = find_run(word, runs)
    if root is not None:
        return root
    near = nearest_run(word, runs)
    hint = f"; did you mean {near}?" if near else ""
    raise JobError(f"{word} is no run directory, and no run below {runs.absolute()}{hint}")


def newest_run(runs: Path = Path("runs")) -> Path:
    """The directory of the run that changed last. Raises JobError where there is none."""
    found = runs_below(runs)
    if not found:
        raise JobError(f"no run in {runs.absolute()}; give the directory of a run")
    return found[0].root


def nearest_run(word: str, runs: Path = Path("runs")) -> str | None:
    """The id that `word` is the beginning of, or else one that is much like it."""
    ids = [run.run_id for run in runs_below(runs)]
    begun = [run_id for run_id in ids if run_id.startswith(word)]
    return next(iter(begun or difflib.get_close_matches(word, ids, n=1)), None)


def last_metrics(path: Path) -> dict[str, Any]:
    """The last line that is as it must be, or an empty one; reads the end of the file alone."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            return checked(loads(line), METRIC, str(path))
        except ValueError:
            continue
    return {}


def _state(status: dict[str, Any], directory: RunDirectory, now: float) -> State:
    if directory.in_use():
        return "going on"
    told = status.get("state")
    if told in OVER:
        over: State = told
        return over
    if not status:
        # Nobody speaks for the whole before a generation; each agent speaks for itself.
        return _ended_early(directory) or "dead"
    several = bool((status.get("rendezvous") or {}).get("endpoints"))
    age = now - (status.get("time") or 0.0)
    return "going on" if several and age < FRESH_SECONDS else "dead"


def _ended_early(directory: RunDirectory) -> State | None:
    """How its agents ended before there was a generation; None unless all of them did."""
    parts = [read_json(path, PART) or {} for path in sorted(directory.agents.glob("*.json"))]
    told = {part.get("state") for part in parts}
    if not told or not told <= set(OVER):
        return None
    order: tuple[State, ...] = ("failed", "drained", "stopped", "completed")
    return next(state for state in order if state in told)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
