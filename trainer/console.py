"""What a command shows, written by one thread that may fail.

Nothing that is only for people decides anything: a console can be full, closed, gone, or stand
still (Ctrl-S, an ssh connection that is dead but not closed), and a print that raises or blocks
there would end a run, or keep it from being ended. So in a command that trains, stdout and stderr
only queue what they are given. What can't be written is left out; the logs have it.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from trainer.supervision import start_thread

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

LIMIT_BYTES = 4 << 20
"""What may wait; more than that is left out."""
HELD_BYTES = 1 << 20
"""From here on workers' output is not read: a slow console slows them down, as a pipe would. The
rest of the room is for what the command itself has to say."""
PIECE_BYTES = 1 << 16
"""The most in one write, as a terminal that stands still takes part of one only."""
STILL_SECONDS = 3.0
"""A console that has taken nothing for so long holds nobody up any more."""
CLOSE_SECONDS = 2.0
"""How long the end of a command waits for a console that stands still."""
LOOK_SECONDS = 0.5
"""How long a descriptor that was made non-blocking by another process is waited for at a time."""
STANDARD = (0, 1, 2)
OUT, ERR = 1, 2


class Console:
    """Stdout and stderr of this process, or the descriptors that stand for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        """Guards all that follows."""
        self._waiting: deque[tuple[int, bytes]] = deque()
        """(descriptor, bytes), in the order in which they were given."""
        self._bytes = 0
        """Of what waits, and of what is being written."""
        self._left_out = 0
        """Bytes that found no room since that was last said."""
        self._over = False
        """Nothing more is taken."""
        self._moved = time.monotonic()
        """When something was last written, or given to a console that had nothing to write."""
        start_thread(self._run, name="console", failed=self._failed)

    @property
    def full(self) -> bool:
        """Whether workers are to wait with their output."""
        with self._changed:
            still = time.monotonic() - self._moved > STILL_SECONDS
            return self._bytes >= HELD_BYTES and not still and not self._over

    def write(self, descriptor: int, data: bytes) -> None:
        """Never blocks, never raises."""
        with self._changed:
            if self._over or not data:
                return
            if self._bytes + len(data) > LIMIT_BYTES:
                self._left_out += len(data)
                return
            self._put(descriptor, data)

    def flush(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Wait for at most `timeout` seconds; True when all is written, or can't be."""
        with self._changed:
            return self._changed.wait_for(lambda: self._over or not self._bytes, timeout)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Write what is left, for at most `timeout` seconds, and take nothing more."""
        self.flush(timeout)
        self._end()

    def _end(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _failed(self, _error: Exception) -> None:
        """The training goes on, and its logs, though nobody sees them here."""
        self._end()

    def _put(self, descriptor: int, data: bytes) -> None:
        if not self._bytes:
            self._moved = time.monotonic()
        self._waiting.append((descriptor, data))
        self._bytes += len(data)
        self._changed.notify_all()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            descriptor, data = item
            self._write_out(descriptor, data)
            with self._changed:
                self._bytes -= len(data)
                if self._left_out and not self._waiting:
                    told = f"remesh: {self._left_out} bytes are not shown here\n"
                    self._left_out = 0
                    self._put(ERR, told.encode())
                self._changed.notify_all()

    def _next(self) -> tuple[int, bytes] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._over or bool(self._waiting))
            return None if self._over else self._waiting.popleft()

    def _write_out(self, descriptor: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest and not self._over:
            try:
                rest = rest[os.write(descriptor, rest[:PIECE_BYTES]) :]
                self._moved = time.monotonic()
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    # Full, closed or gone. It may have room again for what comes next.
                    return
                select.select([], [descriptor], [], LOOK_SECONDS)


class _Bytes(io.BufferedIOBase):
    """Bytes for one descriptor of a console, which takes a write of any size whole."""

    def __init__(self, console: Console, descriptor: int) -> None:
        self._console = console
        self._descriptor = descriptor
        self._terminal = os.isatty(descriptor)
        """As it was in the beginning: what is shown must not change its form when it goes."""

    @property
    def name(self) -> int:
        """The descriptor, as for Python's own stdout."""
        return self._descriptor

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._terminal

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: ReadableBuffer) -> int:
        given = bytes(data)
        self._console.write(self._descriptor, given)
        return len(given)


_current: Console | None = None
"""That of this process, while a command trains."""


def console() -> Console:
    """The one that stdout and stderr go to, where they do; else one for the same descriptors."""
    return _current or Console()


@contextmanager
def shown_beside() -> Iterator[None]:
    """Let nothing that is printed raise or block, until the end of this context."""
    global _current
    _open_standard()
    before = sys.stdout, sys.stderr
    _current = console = Console()
    sys.stdout, sys.stderr = (_stream(console, number) for number in (OUT, ERR))
    try:
        yield
    finally:
        console.close()
        _current = None
        sys.stdout, sys.stderr = before


def _stream(console: Console, descriptor: int) -> TextIO:
    # What a console's encoding hasn't is written in escapes: it raises nothing either.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return io.TextIOWrapper(
        _Bytes(console, descriptor),
        encoding=encoding,
        errors="backslashreplace",
        write_through=True,
    )


def _open_standard() -> None:
    """Put /dev/null where a standard stream is closed, before a socket comes to lie there."""
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
