"""Sharded checkpoints: never torn, never in the way, and readable by any mesh.

Names that need torch are imported when they are first used, so that an agent, or a command that
only lists and verifies, starts without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.checkpoint.checkpointer import Checkpointer
    from trainer.checkpoint.results import Commit, Loaded
    from trainer.checkpoint.statedict import load, save
    from trainer.checkpoint.tree import PerRank

__all__ = ["Checkpointer", "Commit", "Loaded", "PerRank", "load", "save"]
_PLACES = {
    "Checkpointer": "checkpointer",
    "Commit": "results",
    "Loaded": "results",
    "PerRank": "tree",
    "load": "statedict",
    "save": "statedict",
}
"""The module of each name, imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"trainer.checkpoint.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
