"""The run directory: where everything of one run lies, and who may write there.

job.yaml            what runs: the resolved job, or the command of a script
logs/g<G>/rank<R>.log
events.jsonl        one object an event
metrics.jsonl       one object an applied step
status.json         now
summary.json        at the end
plans.json          what would follow from the loss of each node
agents/<node>.json  each agent's own part of the status
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from trainer.errors import JobError


class RunDirectory:
    """Paths of one run, and the lock that tells two launches of one run apart."""

    def __init__(self, root: Path, *, logs: Path | None = None) -> None:
        self.root = root
        self.job = root / "job.yaml"
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
        """The output of `rank` in `generation`; the folder is made."""
        folder = self.logs / f"g{generation}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"rank{rank}.log"

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
            raise JobError(
                f"the run directory {self.root} can't be written ({error.strerror or error}); "
                "choose another with run.directory or --run-directory"
            ) from error
        return not self.job.exists()

    def lock(self, *, alone: bool) -> None:
        """Hold the run until this process ends.

        `alone`: no other agent may take part (the membership lives in this process).
        Otherwise several agents share the run. Raises JobError when somebody else holds it.
        """
        self._lock = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        try:
            fcntl.flock(self._lock, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JobError(
                f"the run in {self.root} is going on in another process; wait for it to end, "
                "choose another run.id (--rdzv-id for a script), or join it with --rdzv-endpoint"
            ) from error

    def unlock(self) -> None:
        """Let go of the run."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
