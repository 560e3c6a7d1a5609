"""`remesh run`: a job file, or a script with torchrun's flags."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.agent import (
    EXIT_COMPLETED,
    EXIT_DRAINED,
    Launch,
    Loop,
    Outcome,
    close_to_strangers,
    report,
)
from trainer.command.again import as_typed, command_again
from trainer.command.flags import TargetKind, add_flags, fill_from_environment, notices
from trainer.command.meeting import meets_nobody
from trainer.command.parser import Parser
from trainer.errors import JobError
from trainer.names import STDIN
from trainer.signals import LISTENER, signal_name
from trainer.telemetry import RunDirectory
from trainer.telemetry.files import PRIVATE_MODE, read_json, replace_json
from trainer.telemetry.files import replace as replace_text
from trainer.telemetry.progress import duration
from trainer.telemetry.shares import STANDSTILL_SECONDS

log = logging.getLogger(__name__)

FAULT_KINDS = "kill, stop, hang, raise, exit, slow, nan, drain, disconnect, agent-kill"
JOB_SUFFIXES = (".yaml", ".yml")


def parser() -> Parser:
    """Takes one job file with flags on either side, or flags and then a script with arguments."""
    made = Parser(
        prog="remesh run",
        example="remesh run job.yaml --set train.steps=200",
        required="give a job file or a script, such as `remesh run job.yaml`",
        usage="remesh run [flags] JOB.yaml [flags]\n"
        "       remesh run [flags] SCRIPT [arguments of the script]",
        description="Run a job file, or any script that torchrun runs, unchanged; with --elastic, "
        "a script that calls trainer.elastic and stays alive over failures.",
        codes="0 completed, 1 failed, 2 wrong usage or job, 75 left with notice and can be resumed",
    )
    made.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override a key")
    made.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="K=V,…",
        help="rehearse a failure: step=30,rank=2,kind=kill, or by chance: rate=0.01,kind=slow,"
        f"times=5; kind is one of {FAULT_KINDS}; more keys in docs/rehearsing.md",
    )
    made.add_argument(
        "--elastic",
        action="store_true",
        help="the script calls trainer.elastic: its processes live on over failures "
        "(docs/own-loops.md); takes --set and --fault as a job file does",
    )
    made.add_argument(
        "--fresh",
        action="store_true",
        help="start a new run even where an earlier one of the same job is unfinished; without it, "
        "and without run.id, that one goes on",
    )
    made.add_argument("--run-directory", metavar="DIR", help="where run directories are made")
    made.add_argument("--node", metavar="NAME", help="name of this node (default: the host's)")
    made.add_argument(
        "--label", action="append", default=[], metavar="K=V", help="a label of this node"
    )
    add_flags(made)
    made.add_argument(
        "target", metavar="JOB.yaml | SCRIPT", help="what to run; - is a job file from stdin"
    )
    made.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return made


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Ends with exit code 2 and one line when the flags can't be read."""
    made = parser()
    if argv and argv[0].startswith("--") and not made.knows(argv[0]):
        # What follows it would be taken for the script.
        made.error(f"{argv[0]}: there is no such flag{made.hint(argv[0])}")
    parsed = made.parse_args(argv)
    parsed.is_job = (
        (parsed.target == STDIN or parsed.target.endswith(JOB_SUFFIXES))
        and not parsed.no_python
        and not parsed.module
    )
    if parsed.is_job and parsed.arguments:
        # What follows a job file is for us: there is no script it could be for.
        rest = made.parse_args([*parsed.arguments, parsed.target], parsed)
        if rest.arguments or rest.target != parsed.target:
            made.error(f"{rest.target!r}: a job file takes flags only, such as --set a.b=c")
    fill_from_environment(parsed, made, os.environ)
    if not parsed.standalone and meets_nobody(parsed):
        parsed.rdzv_endpoint = None
    return parsed


def main(argv: Sequence[str], *, again: str | None = None) -> int:
    """Returns the exit code. Raises JobError for what the user has to mend.

    `again`: the command that starts the same once more, where that is not `remesh run argv`.
    """
    parsed = parse(argv)
    if parsed.is_job and parsed.elastic:
        raise JobError(f"--elastic is for a script; write entrypoint.elastic in {parsed.target}")
    for line in notices(parsed, kind=_kind(parsed)):
        print(f"remesh: {line}", file=sys.stderr)
    if parsed.is_job:
        from trainer.command.job_launch import job_launch

        launch = job_launch(parsed)
    elif parsed.elastic:
        from trainer.command.job_launch import loop_launch

        launch = loop_launch(parsed)
    else:
        from trainer.command.script_launch import script_launch

        launch = script_launch(parsed)
    ignored = LISTENER.listen(launch.signals)
    for name in map(signal_name, ignored if parsed.signals_to_handle else ()):
        print(f"remesh: {name} was ignored when this began, and stays so", file=sys.stderr)
    if again is None and parsed.target == STDIN:
        # What was read there is gone; the run directory has it.
        again = shlex.join([*as_typed(), "resume", str(launch.directory)])
    return start(launch, argv, again or command_again(as_typed(), argv, parsed.target))


def _kind(parsed: argparse.Namespace) -> TargetKind:
    if parsed.is_job:
        return "job"
    return "loop" if parsed.elastic else "script"


def start(launch: Launch, argv: Sequence[str], again: str) -> int:
    """Open the run directory, run the agent, say how it ended.

    `argv` came after `remesh run`; `again` is the command that starts the same once more.
    """
    close_to_strangers()
    directory = RunDirectory(launch.directory, logs=launch.logs)
    try:
        if not occupy(directory, launch, argv):
            print(complete(launch))
            return EXIT_COMPLETED
        if isinstance(launch.workers, Loop):
            # A plain script begins at once, and all that is seen is its own, as with torchrun.
            print(f"remesh: {greeting(launch)}", file=sys.stderr)
        # Loaded when that has been said: it takes as long as all that came before.
        from trainer.agent.agent import run_agent

        outcome = asyncio.run(run_agent(launch, directory))
    finally:
        directory.unlock()
    tell(outcome, launch, again)
    return outcome.code


def greeting(launch: Launch) -> str:
    """The first line: what is being waited for, and where everything goes. Pure."""
    workers = f"{launch.slots} worker{'s' * (launch.slots != 1)}"
    told = f"run {launch.run_id} in {launch.directory}: starting {workers}"
    told += " (importing torch takes some seconds)"
    if launch.membership.endpoints:
        told += f", meeting the other nodes at {', '.join(launch.membership.endpoints)}"
    return told


def complete(launch: Launch) -> str:
    """What is said of a run that is started again when nothing of it is left to do."""
    return (
        f"run {launch.run_id} is complete: {launch.directory}; "
        "to do it once more, choose another run.id (--rdzv-id for a script)"
    )


def is_complete(directory: RunDirectory, launch: Launch) -> bool:
    """Whether an earlier start has done all of the run.

    The run directory's word counts where no service heard of the end. A script of one node is run
    again each time, as torchrun does.
    """
    remembered = isinstance(launch.workers, Loop) or bool(launch.membership.endpoints)
    summary = read_json(directory.summary) if remembered else None
    if summary is None or summary.get("status") != "completed":
        return False
    # Its job may have been given more steps since.
    goal = launch.workers.total_steps if isinstance(launch.workers, Loop) else None
    done = summary.get("steps")
    return goal is None or not isinstance(done, int) or done >= goal


def occupy(directory: RunDirectory, launch: Launch, argv: Sequence[str]) -> bool:
    """Make the run directory ours; it may hold an earlier part of the same run.

    False, with nothing in it changed, when that part was all of it.

    Raises JobError when it belongs to another job or to a process that still runs; nothing in
    it is changed then.
    """
    new = directory.create()
    directory.lock(alone=not launch.membership.endpoints)
    if not new:
        # Not before: a script that is new needs nothing of jobs.
        from trainer.command.same_job import differences
        from trainer.job.reading import read_text

        changed = differences(read_text(directory.job), launch.job_text)
        if changed:
            raise JobError(
                f"{directory.root} holds another run: {', '.join(changed[:5])} "
                f"differ{'s' * (len(changed) == 1)}; choose another run.id (--rdzv-id for a script)"
            )
        if is_complete(directory, launch):
            return False
    exposed = not new and launch.private and directory.job.stat().st_mode & ~PRIVATE_MODE & 0o777
    if new or exposed or directory.job.read_text(encoding="utf-8") != launch.job_text:
        try:
            replace_text(directory.job, launch.job_text, private=launch.private)
        except OSError as error:
            raise directory.unwritable(error) from error
    began = {
        "directory": str(Path.cwd()),
        "arguments": list(argv),
        "endpoints": list(launch.membership.endpoints),
        "logs": str(directory.logs),
    }
    try:
        replace_json(directory.start, began, private=launch.private)
    except OSError as error:
        # A run that goes on may free the room itself, by the checkpoints that it does not keep.
        log.warning("%s can't be written: %s", directory.start, error)
    return True


def _goodput(summary: Mapping[str, Any]) -> str:
    told = f"goodput {summary['goodput']:.0%}: so much of the time went into steps that count"
    if summary["stood_still_seconds"] >= STANDSTILL_SECONDS:
        told += f"; for {duration(summary['stood_still_seconds'])} the run stood still"
    return told


def tell(outcome: Outcome, launch: Launch, again: str) -> None:
    """The last lines: the first failure first, or what was made and where."""
    directory = launch.directory
    resumes = isinstance(launch.workers, Loop)
    if outcome.status == "failed":
        if outcome.failures:
            print(report(outcome.failures), file=sys.stderr)
        print(f"remesh: everything of this run is in {directory}", file=sys.stderr)
        then = f"; once that is mended, to go on: {again}" if outcome.unsaved else ""
        print(f"remesh: failed: {outcome.reason}{then}", file=sys.stderr)
        return
    summary = outcome.summary or {}
    if outcome.code == EXIT_DRAINED:
        then = "to go on" if resumes else "to start it again, from what the script itself has saved"
        lost = f"; {outcome.unsaved}" if outcome.unsaved else ""
        print(f"remesh: left: {outcome.reason}{lost}; {then}: {again}", file=sys.stderr)
    elif summary.get("steps"):
        told = [f"{outcome.status} after {summary['steps']} steps"]
        if summary.get("final_loss") is not None:
            told.append(f"loss {summary['final_loss']:.4f}")
        if summary["tokens_per_second"]:
            told.append(f"{summary['tokens_per_second']:.0f} tokens/s")
        print(", ".join(told))
        print(_goodput(summary))
        if summary.get("weights_sha256"):
            print(f"weights sha256 {summary['weights_sha256']}")
        print(f"everything of this run is in {directory}")
