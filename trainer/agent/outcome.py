"""How a node's part in a run ended, for the command that began it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.agent.failure import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How this node's part ended. `code` is the exit code of the command.

    `unsaved`: what of the run is not in storage that was to be, in words; empty where all is.
    """

    code: int
    status: str
    reason: str
    failures: tuple[Failure, ...] = ()
    summary: dict[str, Any] | None = None
    unsaved: str = ""
