"""What is on its way to one agent."""

from __future__ import annotations

import asyncio
from collections import deque

MAX_MESSAGES = 1024


class Outbox:
    """Encoded messages for one stream, in order. An agent that does not read is cut off."""

    __slots__ = ("_closed", "_messages", "_waiting", "spoke", "stream")

    def __init__(self, stream: int, now: float) -> None:
        self.stream = stream
        self.spoke = now
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
