"""The data plane and the command: what trains, and what a person types."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainer.version import VERSION as __version__

if TYPE_CHECKING:
    from trainer.worker.own.run import Run

__all__ = ["Run", "__version__", "elastic"]

if "REMESH_SIGNALS" in os.environ:  # A worker's process, in its first moment.
    from trainer.worker.signals import leave_to_agent

    leave_to_agent()


def elastic(
    function: Callable[[Run], object], *, checkpoints: str | None = None, every: int = 0
) -> None:
    """Call `function(run)` in every generation of the run, always in this process.

    Under `remesh run --elastic` this does not return: it is the last thing a script does. Outside
    of Remesh, under torchrun or alone, the function is called once; `checkpoints` is then a
    directory to resume from and to save into, every so many steps and at the end. With Remesh
    the job says where and when. See docs/own-loops.md.
    """
    from trainer.worker.own.entry import elastic

    elastic(function, checkpoints=checkpoints, every=every)


def __getattr__(name: str) -> Any:
    # Torch is only imported by those who train.
    if name == "Run":
        from trainer.worker.own.run import Run

        return Run
    told = f"module {__name__!r} has no attribute {name!r}"
    if not name.startswith("_"):
        from trainer.namesake import hidden

        told = "; ".join(filter(None, (told, hidden())))
    raise AttributeError(told)
