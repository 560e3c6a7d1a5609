"""The door of the port for mirrors: whoever comes is a stranger until it has proven a secret.

All strangers together cost one thread, and each a descriptor and the few bytes of one line, for a
few seconds. There are `MAX_STRANGERS` at most; one more sends the one away that has been here
longest, so that many who say nothing keep nobody out who has its line ready. Only who has proven to
be of the job is handed on.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from trainer.address import join_endpoint, listening_place
from trainer.agent.greeting import (
    MAX_GREETING_BYTES,
    NONCE_BYTES,
    GenerationKey,
    Greeting,
    read_greeting,
)
from trainer.supervision import logged, start_thread

log = logging.getLogger(__name__)

BACKLOG = 64
MAX_STRANGERS = 64
"""At once. One of ours has its line ready before it connects, and is one for a moment only."""
GREETING_SECONDS = 5.0
"""For the first line; also how long a sender is kept that is a generation ahead of us."""
LOOK_SECONDS = 0.1
"""How often those who are here are looked after, where nothing else happens."""
PAUSE_SECONDS = 0.2
"""To the next try where no connection could be taken: this process has no descriptor left."""
TELL_SECONDS = 10.0
"""Between two lines of the log about those who were sent away: they can come without end."""
KEYS_KEPT = 2
"""The last generations of which a secret is still good: who sends may be one behind."""

Admit = Callable[[socket.socket, Greeting], None]
"""Called in the reception's thread with a connection, which is then the callee's, and what follows
on it; it must not block."""


@dataclass(slots=True, eq=False)
class _Stranger:
    """A connection that has proven nothing yet."""

    connection: socket.socket
    nonce: bytes
    until: float
    """When it is sent away, by the monotonic clock."""
    line: bytearray = field(default_factory=bytearray)
    greeting: tuple[Greeting, str] | None = None
    """What its whole line said, while it waits for its generation to be known here."""


class Reception:
    """Listens on one address, in a thread of its own, until it is closed."""

    def __init__(self, host: str, admit: Admit) -> None:
        """Raises OSError when no port can be opened on `host`."""
        family, place = listening_place(host, 0)
        self._listener = socket.create_server(place, family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        self.endpoint = join_endpoint(host, self._listener.getsockname()[1])
        self._admit = admit
        self._keys: dict[int, bytes] = {}
        """The secrets by generation, newest last; replaced as a whole, as two threads see it."""
        self._strangers: dict[socket.socket, _Stranger] = {}
        """Who has come first comes first."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._untold = 0
        """Sent away since the log last said so."""
        self._told_at = float("-inf")
        """When the log last said that somebody was sent away."""
        self._closed = threading.Event()
        self._thread = start_thread(self._run, name="mirrors", failed=logged)

    def know(self, key: GenerationKey) -> None:
        """A generation has begun, and its members may come."""
        known = {**self._keys, key.generation: key.secret}
        self._keys = dict(sorted(known.items())[-KEYS_KEPT:])

    def close(self) -> None:
        """Take nobody in any more, and send away who has proven nothing yet."""
        self._closed.set()
        # To close it alone would leave the thread asleep, on a number that others get next.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._selector.close()
        self._listener.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            wait = LOOK_SECONDS if self._strangers else None
            for key, _events in self._selector.select(wait):
                if key.data is None:
                    self._take_in()
                elif key.data.connection in self._strangers:
                    self._hear(key.data)
            for stranger in list(self._strangers.values()):
                self._look_after(stranger)
        for stranger in list(self._strangers.values()):
            self._forget(stranger).close()

    def _take_in(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # It may be that no descriptor is free; who calls waits for that, and so do we.
            if not self._closed.is_set():
                self._tell(f"the port for mirrors takes nobody in for now: {error}")
                self._closed.wait(PAUSE_SECONDS)
            return
        while len(self._strangers) >= MAX_STRANGERS:
            self._send_away(next(iter(self._strangers.values())), "too many at once")
        connection.setblocking(False)
        stranger = _Stranger(
            connection, secrets.token_bytes(NONCE_BYTES), time.monotonic() + GREETING_SECONDS
        )
        self._strangers[connection] = stranger
        self._selector.register(connection, selectors.EVENT_READ, stranger)
        try:
            connection.send(stranger.nonce)
        except OSError as error:
            self._send_away(stranger, str(error))

    def _hear(self, stranger: _Stranger) -> None:
        """Read no more than its line: what follows is for who goes on with it."""
        try:
            room = MAX_GREETING_BYTES - len(stranger.line)
            seen = stranger.connection.recv(room, socket.MSG_PEEK)
            end = seen.find(b"\n") + 1
            stranger.line += stranger.connection.recv(end or len(seen))
            if end:
                self._selector.unregister(stranger.connection)
                stranger.greeting = read_greeting(bytes(stranger.line))
            elif not seen or len(stranger.line) >= MAX_GREETING_BYTES:
                raise ValueError("the sender does not say who it is")
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self._send_away(stranger, str(error))

    def _look_after(self, stranger: _Stranger) -> None:
        late = time.monotonic() > stranger.until
        if stranger.greeting is None:
            if late:
                self._send_away(stranger, "the sender does not say who it is")
            return
        keys, (greeting, digest) = self._keys, stranger.greeting
        secret = keys.get(greeting.generation)
        if secret is None:
            ahead = greeting.generation > max(keys, default=0)
            if late or not ahead:
                self._send_away(stranger, "the sender is of no generation that is known here")
        elif greeting.proven(secret, stranger.nonce, digest):
            self._admit(self._forget(stranger), greeting)
        else:
            self._send_away(stranger, "the sender does not know the generation's secret")

    def _send_away(self, stranger: _Stranger, why: str) -> None:
        self._forget(stranger).close()
        self._tell(f"a mirror could not be taken in: {why}")

    def _forget(self, stranger: _Stranger) -> socket.socket:
        del self._strangers[stranger.connection]
        if stranger.greeting is None and stranger.connection in self._selector.get_map():
            self._selector.unregister(stranger.connection)
        return stranger.connection

    def _tell(self, text: str) -> None:
        now = time.monotonic()
        if now - self._told_at < TELL_SECONDS:
            self._untold += 1
            return
        more = f" (and {self._untold} more since the last such line)" if self._untold else ""
        self._untold, self._told_at = 0, now
        log.warning("%s%s", text, more)
