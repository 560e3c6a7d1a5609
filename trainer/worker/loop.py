"""The life of a worker: enter a generation, train, leave, enter the next, in one process."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Protocol

from trainer.channel import WorkerEnd
from trainer.errors import JobError, WorkerError
from trainer.fingerprint import of_exception
from trainer.worker.inbox import Enter, Exit, Inbox
from trainer.worker.outcome import Left, Outcome

log = logging.getLogger(__name__)


class Program(Protocol):
    """What a rank does in every generation of one job."""

    def enter(self, order: Enter, inbox: Inbox) -> Outcome:
        """Live through one generation. Raises what is wrong with the job or the code itself."""


def live(channel: WorkerEnd, begin: Callable[[Enter], Program]) -> int:
    """Serve the agent until it says exit; returns the exit code of the process.

    `begin` is called with the first order of each job.
    """
    inbox = Inbox(channel)
    program: Program | None = None
    job = ""
    while True:
        order = inbox.next_order()
        if isinstance(order, Exit):
            return 0
        try:
            if program is None or job != order.job:
                program, job = begin(order), order.job
            outcome = program.enter(order, inbox)
        except JobError as error:
            channel.send({"type": "failed", "category": "job", "message": str(error)})
            return 2
        except WorkerError as error:
            channel.send({"type": "failed", "category": "final", "message": str(error)})
            return 1
        # Left by itself, sys.exit() would end a process without a word, with 0 perhaps.
        except (Exception, SystemExit) as error:
            log.exception("generation %d failed", order.generation)
            channel.send(
                {
                    "type": "failed",
                    "category": "worker",
                    "message": _words(error),
                    "traceback": traceback.format_exc(),
                    "error": of_exception(error),
                }
            )
            return _code(error)
        if isinstance(outcome, Left):
            log.info("left generation %d: %s", order.generation, outcome.detail)
        channel.send(outcome.message())


def _words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the program called sys.exit({error.code!r}) before its training was done"
    return f"{type(error).__name__}: {error}"


def _code(error: BaseException) -> int:
    """The exit code of a process that fails of it: what the program asked for, but never 0."""
    return (isinstance(error, SystemExit) and isinstance(error.code, int) and error.code) or 1
