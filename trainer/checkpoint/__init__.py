"""Sharded checkpoints: never torn, never in the way, and readable by any mesh.

Names that need torch are imported when they are first used, so that an agent, or a command that
only lists and verifies, starts without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.checkpoint.checkpointer import Checkpointer, Commit, Loaded
    from trainer.checkpoint.statedict import load, save

__all__ = ["Checkpointer", "Commit", "Loaded", "load", "save"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = "statedict" if name in ("load", "save") else "checkpointer"
        return getattr(import_module(f"trainer.checkpoint.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
