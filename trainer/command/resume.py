"""`remesh resume`: go on with a run of this machine, by its name, from anywhere."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trainer.command import run as run_command
from trainer.command.again import as_typed
from trainer.command.earlier_run import described
from trainer.command.extension import extend
from trainer.command.parser import Parser
from trainer.command.run_logs import read_start
from trainer.errors import JobError
from trainer.job import load
from trainer.outside.numbers import whole_flag
from trainer.telemetry import RunDirectory
from trainer.telemetry.runs import RunRecord, named_run, newest_unfinished, read_run, runs_below


def parser() -> Parser:
    """Takes one run, or none for the newest that is unfinished."""
    made = Parser(
        prog="remesh resume",
        example="remesh resume quickstart",
        description="Go on with a run that was drained, stopped, failed or killed, from its newest "
        "checkpoint, in the directory in which it was started. A run of several nodes goes on by "
        "the command that started it, on each node.",
    )
    made.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="a run directory or id (default: the newest unfinished run in runs/)",
    )
    made.add_argument(
        "--steps",
        type=whole_flag(1),
        metavar="N",
        help="go on to step N; beyond train.steps for a run that is complete (learning rates of "
        "the steps to come are then those of a schedule over N)",
    )
    return made


def main(argv: Sequence[str]) -> int:
    """Returns the exit code, as of `remesh run`. Raises JobError for what can't go on."""
    parsed = parser().parse_args(argv)
    record = _find(parsed.run, anything=parsed.steps is not None)
    if record.state == "completed" and parsed.steps is None:
        print(
            f"run {record.run_id} is complete, {record.step} steps: {record.root}; "
            f"--steps N goes on to step N"
        )
        return 0
    return _go_on(record, parsed.steps)


def _find(word: str | None, *, anything: bool) -> RunRecord:
    """`anything`: a complete run will do."""
    if word is None:
        runs = runs_below(Path("runs"))
        found = next(iter(runs), None) if anything else newest_unfinished(runs, None)
        if found is None:
            raise JobError(f"no unfinished run in {Path('runs').absolute()}; give its directory")
    else:
        found = read_run(named_run(word).absolute(), time.time())
        if found is None:
            raise JobError(f"{word} has not begun: there is no job.yaml in it")
    if found.live:
        raise JobError(f"run {found.run_id} is going on: {found.root}; `remesh status` shows it")
    return found


def _go_on(record: RunRecord, steps: int | None) -> int:
    root = record.root.absolute()
    directory = RunDirectory(root)
    began = read_start(root)
    arguments = list(began.get("arguments") or ())
    before = shlex.join([*as_typed(), "run", *arguments])
    if began.get("endpoints"):
        raise JobError(
            f"run {record.run_id} has several nodes, each with flags of its own; start them as "
            f"before, this one with: {before}"
        )
    job = load(directory.job)
    if not job.trains and not job.saves:
        raise JobError(
            f"run {record.run_id} is of a script that saves for itself; start it again: {before}"
        )
    folder = began.get("directory") or str(Path.cwd())
    try:
        os.chdir(folder)
    except OSError as error:
        raise JobError(
            f"run {record.run_id} was started in {folder}, which can't be entered "
            f"({error.strerror}); what its job names by relative paths would not be found"
        ) from error
    if steps is not None:
        extend(directory, job, steps, record)
        record = replace(record, total_steps=steps)
    print(f"remesh: {described(record, job).line(fresh=False)}", file=sys.stderr)
    again = shlex.join([*as_typed(), "resume", str(root)])
    return run_command.main(
        [str(directory.job), "--set", f"run.directory={root.parent}"], again=again
    )
