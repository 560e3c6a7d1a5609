"""Writes the run's record in a thread, so that a slow disk never delays whoever keeps it.

An agent that waited for its files would miss its beats, and its node would be taken for lost: a
write may take seconds while a filesystem is busy with somebody's save.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Pen:
    """Carries out writes one after the other, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._writes: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    @property
    def behind(self) -> bool:
        """Whether something waits to be written."""
        return not self._writes.empty()

    def write(self, write: Callable[[], object]) -> None:
        """Call it later, and tell the log of an OSError; returns at once."""
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
            try:
                write()
            except OSError as error:
                log.error("the run's record can't be written: %s", error)
