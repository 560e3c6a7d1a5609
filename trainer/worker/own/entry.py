"""`trainer.elastic`: under an agent, a worker that lives over generations; else one plain run."""

from __future__ import annotations

import os
from collections.abc import Callable

from trainer.channel import CHANNEL_VARIABLE
from trainer.worker.loop import live
from trainer.worker.own.plain import run_plainly
from trainer.worker.own.program import OwnLoop
from trainer.worker.own.run import Run
from trainer.worker.process import leave, prepare, say_hello


def elastic(
    function: Callable[[Run], object], *, checkpoints: str | None = None, every: int = 0
) -> None:
    """See `trainer.elastic`."""
    if CHANNEL_VARIABLE not in os.environ:
        run_plainly(function, checkpoints=checkpoints, every=every)
        return
    channel = prepare()
    say_hello(channel)
    leave(live(channel, lambda order: OwnLoop.of(function, order)))
