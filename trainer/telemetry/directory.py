"""The run directory: where everything of one run lies, and who may write there.

job.yaml            what runs: the resolved job, or the command of a script
start.json          how it was started last: in which directory, with which arguments
logs/g<G>/rank<R>.log
logs/starting/<node>-<pid>.log
events.jsonl        one object an event
metrics.jsonl       one object an applied step
status.json         now
summary.json        at the end
plans.json          what would follow from the loss of each node
agents/<node>.json  each agent's own part of the status
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

from trainer.errors import JobError
from trainer.telemetry.files import FILE_MODE

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
LOOK_SECONDS = 1.0
"""Whoever looks whether a run is held holds it for that moment; a start tries for so long."""
PAUSE_SECONDS = 0.02
"""Between two such tries."""


class RunDirectory:
    """Paths of one run, and the lock that tells two launches of one run apart."""

    def __init__(self, root: Path, *, logs: Path | None = None) -> None:
        self.root = root
        self.job = root / "job.yaml"
        self.start = root / "start.json"
        self.events = root / "events.jsonl"
        self.metrics = root / "metrics.jsonl"
        self.status = root / "status.json"
        self.summary = root / "summary.json"
        self.plans = root / "plans.json"
        self.agents = root / "agents"
        self.lock_file = root / ".lock"
        self.logs = logs or root / "logs"
        self._lock = -1

    def log(self, generation: int, rank: int) -> Path:
        """The output of `rank` in `generation`."""
        return self.logs / f"g{generation}" / f"rank{rank}.log"

    def start_log(self, node: str, pid: int) -> Path:
        """The output of a process that ended before it had a rank."""
        return self.logs / "starting" / f"{node}-{pid}.log"

    def create(self) -> bool:
        """Make the folders. True when the run is new, False when it was there before.

        Raises JobError when the directory can't be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.agents.mkdir(exist_ok=True)
            self.logs.mkdir(parents=True, exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(f"no right to write in {self.root}")
        except OSError as error:
            raise self.unwritable(error) from error
        return not self.job.exists()

    def unwritable(self, error: OSError) -> JobError:
        """Why nothing can be begun here, and what mends it."""
        mended = "free some room there, or choose" if error.errno in NO_ROOM else "choose"
        return JobError(
            f"the run directory {self.root} can't be written ({error.strerror or error}); "
            f"{mended} another with run.directory or --run-directory"
        )

    def lock(self, *, alone: bool) -> None:
        """Hold the run until this process ends.

        `alone`: no other agent may take part (the membership lives in this process).
        Otherwise several agents share the run. Raises JobError when somebody else holds it.
        """
        try:
            self._lock = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise self.unwritable(error) from error
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        deadline = time.monotonic() + LOOK_SECONDS
        while not _locks(self._lock, kind):
            if time.monotonic() >= deadline:
                raise JobError(
                    f"the run in {self.root} is going on in another process; wait for it to end, "
                    "choose another run.id (--rdzv-id for a script), or join it with "
                    "--rdzv-endpoint"
                )
            time.sleep(PAUSE_SECONDS)

    def in_use(self) -> bool:
        """Whether some process holds the run now."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return not _locks(descriptor, fcntl.LOCK_EX)
        finally:
            os.close(descriptor)

    def unlock(self) -> None:
        """Let go of the run."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _locks(descriptor: int, kind: int) -> bool:
    """Whether the lock could be had at once."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return True
    return False
