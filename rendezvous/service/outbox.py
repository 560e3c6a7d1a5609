"""What is on its way to one agent."""

from __future__ import annotations

import asyncio
from collections import deque

MAX_MESSAGES = 1024


class Outbox:
    """Encoded messages for one stream, in order. An agent that does not read is cut off.

    `spoke` is when it was last told something, `promise` how many seconds after that it was told
    to expect the next word at the latest.
    """

    __slots__ = ("_closed", "_messages", "_waiting", "promise", "spoke")

    def __init__(self, now: float, promise: float) -> None:
        self.spoke = now
        self.promise = promise
        self._messages: deque[bytes] = deque()
        self._closed = False
        self._waiting: asyncio.Future[None] | None = None

    def put(self, message: bytes, now: float) -> None:
        if self._closed:
            return
        self.spoke = now
        self._messages.append(message)
        if len(self._messages) > MAX_MESSAGES:
            self._messages.clear()
            self._closed = True
        self._wake()

    def close(self) -> None:
        """Nothing more is taken; what is there is still sent."""
        self._closed = True
        self._wake()

    async def take(self) -> bytes | None:
        """The next message; None at the end. For one reader."""
        while not self._messages:
            if self._closed:
                return None
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._messages.popleft()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
