"""One worker of an agent: its process, its output, and for a loop worker its channel."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from trainer.agent import words
from trainer.agent.launch import Stream
from trainer.agent.output import Pump
from trainer.agent.process import Exit, Process
from trainer.channel import CHANNEL_VARIABLE, LineBuffer, Message, Outbox
from trainer.signals import DUMP_SIGNAL
from trainer.supervision import Failed, guarded

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 16


class Worker:
    """A process that runs. `number` is the agent's own for it.

    `rank` and `generation` are of the place it was given last; None before the first.
    """

    def __init__(
        self,
        number: int,
        argv: Sequence[str],
        env: Mapping[str, str],
        pump: Pump,
        *,
        ended: Callable[[Worker, Exit], None],
        failed: Failed,
        heard: Callable[[Worker, Message], None] | None = None,
        leaves: Collection[int] = (),
    ) -> None:
        """With `heard` the process gets a channel; `leaves` are signals that it leaves to us, and
        `failed` is what follows where it can't be heard any more.

        Raises OSError when it can't be started.
        """
        self.number = number
        self.pump = pump
        self.rank: int | None = None
        self.local_rank: int | None = None
        self.generation: int | None = None
        self.state = "starting"
        self.standby = False
        self.was_ready = heard is None
        """Whether it has said that it could enter a generation; a script is never asked."""
        self.log: Path | None = None
        self.error_file: Path | None = None
        self.interrupted_at: float | None = None
        self.told: tuple[str, str] | None = None
        self._heard = heard
        self._failed = failed
        self._buffer = LineBuffer()
        self._channel: socket.socket | None = None
        self._outbox: Outbox | None = None
        theirs: socket.socket | None = None
        env = dict(env)
        with contextlib.ExitStack() as undo:
            undo.callback(pump.discard)
            if heard is not None:
                self._channel, theirs = socket.socketpair()
                undo.callback(theirs.close)
                undo.callback(self._channel.close)
                self._channel.setblocking(False)
                self._outbox = Outbox(self._channel)
                env[CHANNEL_VARIABLE] = str(theirs.fileno())
            self.process = Process(
                argv,
                env,
                stdout=pump.child_ends[Stream.OUT],
                stderr=pump.child_ends[Stream.ERR],
                channel=theirs,
                leaves=leaves,
            )
            undo.pop_all()
        if theirs is not None:
            theirs.close()
        if self._channel is not None:
            receive = guarded(self._receive, name="a worker's words", failed=failed)
            asyncio.get_running_loop().add_reader(self._channel, receive)
        pump.start(failed)
        self.process.watch(lambda how: self._finish(how, ended), failed=failed)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def talks(self) -> bool:
        """Whether it has a channel: a loop worker."""
        return self._heard is not None

    def place(self, generation: int, rank: int, local_rank: int, log: Path) -> None:
        """Its place from now on, and the file its output goes to."""
        self.generation, self.rank, self.local_rank, self.log = generation, rank, local_rank, log
        self.interrupted_at = None
        self.told = None
        try:
            self.pump.log_to(log)
        except OSError as error:
            logger.error("rank %d has no log file, and goes on without: %s", rank, error)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Never blocks. A worker that is gone or does not read is noticed by its end."""
        if self._channel is None or self._outbox is None:
            return
        self._outbox.put(message, descriptors)
        self._flush()

    def _flush(self) -> None:
        if self._channel is None or self._outbox is None:
            return
        sent = True
        with contextlib.suppress(OSError):
            sent = self._outbox.flush()
        loop = asyncio.get_running_loop()
        if sent:
            loop.remove_writer(self._channel)
        else:
            flush = guarded(self._flush, name="words to a worker", failed=self._failed)
            loop.add_writer(self._channel, flush)

    def interrupt(self, number: int) -> None:
        """Have it leave by a signal."""
        self.process.ask_to_leave(number)

    def mark_interrupted(self) -> None:
        self.interrupted_at = self.interrupted_at or time.time()

    def dump_stacks(self) -> None:
        """The worker's fault handler writes them to its stderr."""
        self.process.signal(DUMP_SIGNAL)

    def kill(self) -> None:
        self.process.signal_group(signal.SIGKILL)

    def _receive(self) -> None:
        assert self._channel is not None
        assert self._heard is not None
        try:
            data = self._channel.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close_channel()
            return
        try:
            for message in self._buffer.feed(data):
                self._heard(self, words.heard(message))
        except ValueError as error:
            logger.error("worker %d (pid %d) is ended: %s", self.number, self.pid, error)
            self.kill()

    def _close_channel(self) -> None:
        if self._channel is not None and self._outbox is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            asyncio.get_running_loop().remove_writer(self._channel)
            self._outbox.close()
            self._channel.close()
            self._channel = None

    def _finish(self, how: Exit, ended: Callable[[Worker, Exit], None]) -> None:
        while self._channel is not None:
            before = self._channel
            self._channel.setblocking(False)
            try:
                data = before.recv(READ_BYTES, socket.MSG_PEEK)
            except OSError:
                data = b""
            if data:
                self._receive()
            else:
                self._close_channel()
        self.pump.finish()
        ended(self, how)
