"""Writes the run's record in a thread, so that a slow disk never delays whoever keeps it.

An agent that waited for its files would miss its beats, and its node would be taken for lost: a
write may take seconds while a filesystem is busy with somebody's save.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from trainer.supervision import guarded, logged, start_thread

log = logging.getLogger(__name__)

SHOWN = 4
"""So many different reasons are kept; more would be no help."""


class Pen:
    """Carries out writes one after the other, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._writes: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lost = 0
        """How many writes have failed."""
        self._why: list[str] = []
        """What they failed by, each once, and the first few of them alone."""
        self._thread = start_thread(self._run, name="record", failed=logged)

    @property
    def behind(self) -> bool:
        """Whether something waits to be written."""
        return not self._writes.empty()

    @property
    def lost(self) -> int:
        """How many writes have failed so far: so much is not in the record."""
        return self._lost

    @property
    def why(self) -> str:
        """What they failed by."""
        return "; ".join(self._why)

    def write(self, write: Callable[[], object]) -> None:
        """Call it later; returns at once. A write that fails is told to the log, and is no reason
        to leave out the next."""
        self._writes.put(write)

    def wait(self) -> None:
        """Until all that was asked for is written."""
        written = threading.Event()
        self._writes.put(written.set)
        written.wait()

    def close(self) -> None:
        """Write what is left, and end."""
        self._writes.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (write := self._writes.get()) is not None:
            guarded(self._carry_out, name="the run's record", failed=self._failed)(write)

    def _carry_out(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            # A disk that is full refuses line after line: that is said once.
            if str(error) not in self._why:
                log.error("the run's record can't be written: %s", error)
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._lost += 1
        if str(error) not in self._why and len(self._why) < SHOWN:
            self._why.append(str(error))
