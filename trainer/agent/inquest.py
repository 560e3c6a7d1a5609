"""Why a process has ended, from what it said, wrote and left behind."""

from __future__ import annotations

import logging
import time

from trainer import fingerprint
from trainer.agent.failure import Failure, read_error_file
from trainer.agent.process import Exit
from trainer.agent.worker import Worker
from trainer.telemetry import RunDirectory

log = logging.getLogger(__name__)


def last_words(worker: Worker, how: Exit, node: str, directory: RunDirectory) -> tuple[str, str]:
    """The last line of a process that never had a place, and its error's fingerprint.

    All that it wrote is kept in a file of its own, as there is no rank and no generation.
    """
    early = worker.pump.early_output()
    if early:
        path = directory.start_log(node, worker.pid)
        try:
            worker.pump.keep_early_output(path)
            worker.log = path
        except OSError as problem:
            log.warning("the output of process %d can't be kept: %s", worker.pid, problem)
    said = fingerprint.last_words(early.decode(errors="replace"))
    return said, "" if how.signal else fingerprint.of_output(said)


def failure_of(worker: Worker, how: Exit, node: str) -> Failure | None:
    """None unless the worker failed by itself, rather than because we ended it."""
    said = read_error_file(worker.error_file) if worker.error_file is not None else None
    message, trace, at = said or ("", "", time.time())
    if worker.told is not None:
        message, trace = worker.told
    ended_by_us = worker.interrupted_at is not None and not (
        said is not None and at < worker.interrupted_at
    )
    if how.ok or ended_by_us:
        return None
    return Failure(
        node=node,
        rank=worker.rank,
        local_rank=worker.local_rank,
        generation=worker.generation,
        pid=worker.pid,
        exit=how,
        time=at,
        message=message,
        traceback=trace,
        log=worker.log,
    )
