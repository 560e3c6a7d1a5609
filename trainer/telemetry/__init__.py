"""What a run leaves behind: events, metrics, status, a summary; and the line of progress."""

from __future__ import annotations

from trainer.telemetry.directory import RunDirectory
from trainer.telemetry.ledger import Ledger
from trainer.telemetry.progress import Progress
from trainer.telemetry.status import find_run, read_status

__all__ = ["Ledger", "Progress", "RunDirectory", "find_run", "read_status"]
