"""The life of a worker: enter a generation, train, leave, enter the next, in one process."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Protocol

from trainer.channel import WorkerEnd
from trainer.errors import JobError, WorkerError
from trainer.worker.inbox import Enter, Exit, Inbox
from trainer.worker.outcome import Finished, Left, Outcome, Spared
from trainer.worker.placement import Placements
from trainer.worker.seat import Seat

log = logging.getLogger(__name__)


class Program(Protocol):
    """What a rank does in every generation of one job."""

    @property
    def version(self) -> int:
        """Of the state that this process would bring along now."""

    def seat(self, order: Enter, inbox: Inbox) -> Seat | None:
        """This rank's seat in the generation; None where it has no place in the mesh."""

    def run(self, seat: Seat) -> Finished:
        """Open the seat and train on it. Raises GenerationOver, or what a broken group raises."""


def live(channel: WorkerEnd, begin: Callable[[Enter], Program]) -> int:
    """Serve the agent until it says exit; returns the exit code of the process.

    `begin` is called with the first order of each job.
    """
    inbox = Inbox(channel)
    placements = Placements()
    program: Program | None = None
    job = ""
    while True:
        order = inbox.next_order()
        if isinstance(order, Exit):
            return 0
        try:
            if program is None or job != order.job:
                program, job = begin(order), order.job
            outcome = _pass_through(order, program, inbox, placements)
        except JobError as error:
            channel.send({"type": "failed", "category": "job", "message": str(error)})
            return 2
        except WorkerError as error:
            channel.send({"type": "failed", "category": "final", "message": str(error)})
            return 1
        except Exception as error:
            log.exception("generation %d failed", order.generation)
            channel.send(
                {
                    "type": "failed",
                    "category": "worker",
                    "message": f"{type(error).__name__}: {error}",
                    "traceback": traceback.format_exc(),
                }
            )
            return 1
        if isinstance(outcome, Left):
            log.info("left generation %d: %s", order.generation, outcome.detail)
        channel.send(outcome.message())


def _pass_through(order: Enter, program: Program, inbox: Inbox, placements: Placements) -> Outcome:
    """Live through one generation. Raises what is wrong with the job or the code itself."""
    seat = program.seat(order, inbox)
    if seat is None:
        log.info("rank %d is a spare in generation %d", order.rank, order.generation)
        return Spared(generation=order.generation)
    log.info(
        "rank %d enters generation %d (%s): %s",
        order.rank,
        order.generation,
        seat.place.text,
        order.reason,
    )
    placements.move_to(seat.rank, seat.place.dims.get("tp", 1), seat.device)
    with seat:
        try:
            return program.run(seat)
        except Exception as error:
            left = seat.left(error, program.version)
            if left is None:
                raise
            return left
