"""Sharded checkpoints: never torn, never in the way, and readable by any mesh.

Names that need torch are imported when they are first used, so that an agent, or a command that
only lists and verifies, starts without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.checkpoint.checkpointer import Checkpointer, Commit, Loaded

__all__ = ["Checkpointer", "Commit", "Loaded"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from trainer.checkpoint import checkpointer

        return getattr(checkpointer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
