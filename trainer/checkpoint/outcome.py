"""Errors as JSON, so that what went wrong on one rank is raised on all."""

from __future__ import annotations

from typing import Any

from trainer.errors import (
    CheckpointDamaged,
    CheckpointError,
    CheckpointMismatch,
    GenerationOver,
)

JSON = Any
_KINDS = {kind.__name__: kind for kind in (CheckpointError, CheckpointDamaged, CheckpointMismatch)}


def failure(error: Exception) -> JSON:
    """The error as JSON; one that is not of this package's tree becomes a CheckpointError."""
    if isinstance(error, GenerationOver):
        return {"error": "GenerationOver", "generation": error.generation, "reason": error.reason}
    kind = type(error).__name__
    return {"error": kind if kind in _KINDS else "CheckpointError", "message": str(error)}


def raise_failure(outcome: JSON) -> None:
    """Raise what `failure` described; quiet for anything else."""
    if not isinstance(outcome, dict) or "error" not in outcome:
        return
    if outcome["error"] == "GenerationOver":
        raise GenerationOver(outcome["generation"], outcome["reason"])
    raise _KINDS[outcome["error"]](outcome["message"])
