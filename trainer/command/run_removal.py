"""`remesh delete RUN` for a run of this machine: its directory, and nothing outside it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from trainer.command.parser import Parser
from trainer.errors import JobError
from trainer.job import load
from trainer.telemetry import RunDirectory
from trainer.telemetry.runs import named_run


def parser() -> Parser:
    """Takes one run."""
    made = Parser(
        prog="remesh delete",
        example="remesh delete quickstart --yes",
        cluster="delete",
        description="Remove a run that is over: its directory with logs, record and checkpoints. "
        "Checkpoints that a job keeps elsewhere stay.",
    )
    made.add_argument("run", metavar="RUN", help="a run directory, or the id of a run in runs/")
    made.add_argument("--yes", action="store_true", help="don't ask")
    return made


def main(argv: Sequence[str]) -> int:
    """Returns the exit code. Raises JobError when the run goes on, or nobody said yes."""
    parsed = parser().parse_args(argv)
    root = named_run(parsed.run)
    root = root.resolve()
    directory = RunDirectory(root)
    # Held while it goes, so that nobody starts in what is left of it.
    directory.lock(alone=True)
    try:
        size = sum(path.lstat().st_size for path in root.rglob("*"))
        if not parsed.yes and not _agreed(f"remove {root} ({size / 1e6:,.1f} MB)?"):
            raise JobError(f"{root} was left as it is; --yes removes it without a question")
        elsewhere = _checkpoints_elsewhere(directory)
        shutil.rmtree(root)
    finally:
        directory.unlock()
    print(f"removed {root}")
    if elsewhere:
        print(f"its checkpoints in {elsewhere} stay")
    return 0


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _checkpoints_elsewhere(directory: RunDirectory) -> str | None:
    try:
        return load(directory.job).checkpoint.directory
    except JobError:
        return None
