"""Why a worker failed, told so that the first cause comes first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.agent.process import Exit
from trainer.fingerprint import MAX_LENGTH

LAST_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One worker's failure. `time` is when it failed, `traceback` what it said of it.

    `rank`, `local_rank` and `generation` are None where it ended before it had a place.
    """

    node: str
    rank: int | None
    local_rank: int | None
    generation: int | None
    pid: int
    exit: Exit
    time: float
    message: str = ""
    traceback: str = ""
    log: Path | None = None

    @property
    def cause(self) -> str:
        """One line."""
        who = f"a process (pid {self.pid})" if self.rank is None else f"rank {self.rank}"
        what = f"{who} ended with {self.exit}"
        return f"{what}: {self.message}" if self.message else what


def read_error_file(path: Path) -> tuple[str, str, float] | None:
    """(message, traceback, seconds since the epoch) from torch's error file; None without one."""
    try:
        written_at = path.stat().st_mtime
        message = json.loads(path.read_text(encoding="utf-8"))["message"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if isinstance(message, str):
        return message, "", written_at
    if not isinstance(message, dict):
        return None
    extra = message.get("extraInfo") or {}
    return str(message.get("message", "")), str(extra.get("py_callstack", "")), written_at


def headline(message: str) -> str:
    """The first line of what was said of a failure, as a cause in one line; it may be empty."""
    lines = message.strip().splitlines()
    return lines[0][:MAX_LENGTH] if lines else ""


def first(failures: Sequence[Failure]) -> Failure | None:
    """The earliest failure: the others are mostly its consequence."""
    return min(failures, key=lambda failure: failure.time, default=None)


def report(failures: Sequence[Failure]) -> str:
    """The first failure with its traceback, then the others in a line each."""
    root = first(failures)
    if root is None:
        return ""
    who = f"rank {root.rank} (local rank {root.local_rank}, node {root.node}, pid {root.pid})"
    when = f"in generation {root.generation}"
    if root.rank is None:
        who, when = f"a process of node {root.node} (pid {root.pid})", "before it was ready"
    lines = [f"first failure: {who} ended with {root.exit} {when}"]
    if root.traceback:
        lines += ["", *root.traceback.rstrip().splitlines(), ""]
    elif root.message:
        lines.append(f"  {root.message}")
    elif (tail := _last_lines(root.log)) and (root.rank is None or not root.exit.by_others):
        lines += ["  the last lines of its output:", *(f"  | {line}" for line in tail)]
    if root.log is not None:
        lines.append(f"  its output: {root.log}")
    others = [failure for failure in failures if failure is not root]
    lines += [f"then: {failure.cause}" for failure in sorted(others, key=lambda f: f.time)]
    return "\n".join(lines)


def _last_lines(log: Path | None) -> list[str]:
    if log is None:
        return []
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    except OSError:
        return []
