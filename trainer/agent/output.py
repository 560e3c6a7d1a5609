"""A worker's output: all of it into the log of its generation and rank, some to the console."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from pathlib import Path

from trainer.agent.launch import Stream
from trainer.console import ERR, OUT, Console
from trainer.supervision import Failed, call_later, guarded, logged
from trainer.telemetry.files import FILE_MODE

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 16
PAUSE_SECONDS = 0.02
EARLY_BYTES = 1 << 20
"""The newest of what was written before there was a log file; what a process says last counts."""


class ConsoleWriter:
    """Workers' output on the agent's stdout and stderr."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @property
    def full(self) -> bool:
        """Whether workers are to wait with what they print."""
        return self._console.full

    def write(self, stream: Stream, data: bytes) -> None:
        """Never blocks; what does not fit is left out (callers look at `full` before)."""
        self._console.write(ERR if stream == Stream.ERR else OUT, data)

    def close(self) -> None:
        """Write what is left, if the console takes it in a moment."""
        self._console.flush()


class Pump:
    """Moves one worker's stdout and stderr. The log file can change while the worker lives."""

    def __init__(
        self,
        console: ConsoleWriter,
        *,
        shown: Stream = Stream.NONE,
        prefixed: Stream = Stream.NONE,
        separate: Stream = Stream.NONE,
        prefix: str = "",
    ) -> None:
        """`shown` streams reach the console, those in `prefixed` line by line behind `prefix`;
        `separate` streams also get a file of their own beside the log. Raises OSError."""
        self._console = console
        self._shown = shown
        self._prefixed = prefixed
        self._separate = separate
        self._prefix = prefix.encode()
        self._log = -1
        self._own: dict[Stream, int] = {}
        self._early: deque[tuple[Stream, bytes]] = deque()
        self._early_bytes = 0
        self._told = False
        """Whether it was said that some of the output is not kept."""
        self._lines: dict[Stream, list[bytes]] = {Stream.OUT: [], Stream.ERR: []}
        """The pieces of a line that has not ended yet: it may be of any length."""
        self._pipes: dict[Stream, int] = {}
        self._failed: Failed = logged
        """What follows where the output can't be read, as `start` was told."""
        self.child_ends: dict[Stream, int] = {}
        try:
            for stream in (Stream.OUT, Stream.ERR):
                self._pipes[stream], self.child_ends[stream] = os.pipe()
                os.set_blocking(self._pipes[stream], False)
        except OSError:
            self.discard()
            raise

    def discard(self) -> None:
        """Close the pipes of a process that could not be started."""
        for descriptor in (*self._pipes.values(), *self.child_ends.values()):
            os.close(descriptor)
        self._pipes, self.child_ends = {}, {}

    def start(self, failed: Failed) -> None:
        """Close the child's ends (it has them now) and read in the running loop."""
        self._failed = failed
        for descriptor in self.child_ends.values():
            os.close(descriptor)
        self.child_ends = {}
        for stream in self._pipes:
            self._resume(stream)

    def tag(self, prefix: str) -> None:
        """What stands before each prefixed line from now on."""
        self._prefix = prefix.encode()

    def log_to(self, path: Path) -> None:
        """From now on into `path`, whose folder is made; what came before the first file goes there
        too. Raises OSError; then it is kept as what comes before the first file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._close_files()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._log = os.open(path, flags, FILE_MODE)
        for stream, suffix in ((Stream.OUT, ".stdout.log"), (Stream.ERR, ".stderr.log")):
            if stream in self._separate:
                self._own[stream] = os.open(path.with_suffix(suffix), flags, FILE_MODE)
        early, self._early = self._early, deque()
        self._early_bytes = 0
        for stream, data in early:
            self._store(stream, data)

    def finish(self) -> None:
        """Take what the ended worker left in the pipes, then close everything."""
        for stream in list(self._pipes):
            while stream in self._pipes and self._read(stream):
                pass
            self._close_pipe(stream)
            if self._lines[stream]:
                self._show_lines(stream, b"\n")
        self._close_files()

    def early_output(self) -> bytes:
        """The newest of what the worker wrote before it had a log file."""
        return b"".join(data for _stream, data in self._early)

    def keep_early_output(self, path: Path) -> None:
        """Give it a log file after all, once the worker has ended. Raises OSError."""
        self.log_to(path)
        self._close_files()

    def _ready(self, stream: Stream) -> None:
        if self._shown and self._console.full:
            asyncio.get_running_loop().remove_reader(self._pipes[stream])
            call_later(PAUSE_SECONDS, self._resume, stream, failed=self._failed)
            return
        self._read(stream)

    def _resume(self, stream: Stream) -> None:
        if stream in self._pipes:
            ready = guarded(self._ready, name="a worker's output", failed=self._failed)
            asyncio.get_running_loop().add_reader(self._pipes[stream], ready, stream)

    def _read(self, stream: Stream) -> bool:
        try:
            data = os.read(self._pipes[stream], CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close_pipe(stream)
            return False
        self._store(stream, data)
        if stream in self._prefixed:
            self._show_lines(stream, data)
        elif stream in self._shown:
            self._console.write(stream, data)
        return True

    def _show_lines(self, stream: Stream, data: bytes) -> None:
        """Those that `data` ends, behind the prefix; the last piece waits for its end."""
        ended, newline, rest = data.rpartition(b"\n")
        held = self._lines[stream]
        if newline:
            lines = b"".join([*held, ended]).split(b"\n")
            held.clear()
            self._console.write(stream, b"".join(self._prefix + x + b"\n" for x in lines))
        if rest:
            held.append(rest)

    def _store(self, stream: Stream, data: bytes) -> None:
        if self._log < 0:
            self._early.append((stream, data))
            self._early_bytes += len(data)
            while self._early_bytes - len(self._early[0][1]) >= EARLY_BYTES:
                self._early_bytes -= len(self._early.popleft()[1])
            return
        try:
            os.write(self._log, data)
            if stream in self._own:
                os.write(self._own[stream], data)
        except OSError as error:
            if not self._told:
                log.error("a worker's output can't be kept in its log: %s", error)
            self._told = True

    def _close_pipe(self, stream: Stream) -> None:
        pipe = self._pipes.pop(stream, -1)
        if pipe >= 0:
            asyncio.get_running_loop().remove_reader(pipe)
            os.close(pipe)

    def _close_files(self) -> None:
        for descriptor in (self._log, *self._own.values()):
            if descriptor >= 0:
                os.close(descriptor)
        self._log = -1
        self._own = {}
