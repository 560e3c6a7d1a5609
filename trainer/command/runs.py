"""`remesh runs`: the runs of a directory, newest first, a line each."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from trainer.command.parser import Parser
from trainer.errors import JobError
from trainer.telemetry.progress import duration
from trainer.telemetry.runs import RunRecord, runs_below

WHOLE_LINE = 240
"""Columns for the longest id (128) and all that stands beside it."""


def parser() -> Parser:
    """Takes a folder of runs."""
    made = Parser(
        prog="remesh runs",
        example="remesh runs /scratch/runs",
        description="List the runs of a directory, the one that changed last first. Of a `dead` "
        "one nothing lives, and nobody ended it: `remesh resume RUN` goes on with it.",
    )
    made.add_argument("folder", nargs="?", default="runs", metavar="DIR", help="(default: runs)")
    made.add_argument("--json", action="store_true", help="as one JSON array")
    return made


def main(argv: Sequence[str]) -> int:
    """Prints; 0 when there is a run."""
    parsed = parser().parse_args(argv)
    found = runs_below(Path(parsed.folder))
    if parsed.json:
        print(json.dumps([asdict(run) | {"root": str(run.root)} for run in found], indent=1))
        return 0
    if not found:
        raise JobError(f"no run in {Path(parsed.folder).absolute()}; give the directory of runs")
    now = time.time()
    table = Table("run", "state", "step", "loss", "began", "changed", box=None, pad_edge=False)
    for run in found:
        table.add_row(*_row(run, now))
    # Whole names, however narrow the terminal: a cut one can't be typed, and it wraps by itself.
    Console(width=WHOLE_LINE).print(table, crop=False)
    return 0


def _row(run: RunRecord, now: float) -> tuple[str, ...]:
    of = f"/{run.total_steps}" if run.total_steps else ""
    return (
        run.run_id,
        run.state,
        f"{run.step}{of}",
        "" if run.loss is None else f"{run.loss:.4f}",
        time.strftime("%Y-%m-%d %H:%M", time.localtime(run.began)),
        f"{duration(max(0.0, now - run.changed))} ago",
    )
