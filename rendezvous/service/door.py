"""A few at a time, in order, so that everything else has its turn in between."""

from __future__ import annotations

import asyncio
from collections import deque

from rendezvous.supervision import start_task

AT_ONCE = 32


class Door:
    """Where a crowd queues up.

    When thousands of agents join at once, the loop must still get to renew the leader's lease and
    to hear those that are in already. Whoever goes away while it waits costs nothing.
    """

    def __init__(self) -> None:
        self._queue: deque[asyncio.Future[None]] = deque()
        self._usher: asyncio.Task[None] | None = None

    async def pass_through(self) -> None:
        """Return when it is the caller's turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        if self._usher is None:
            self._usher = start_task(self._ush(), name="door", failed=self._turn_away)
        await turn

    def _turn_away(self, error: Exception) -> None:
        """Nobody waits for good where nobody lets in."""
        self._usher = None
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(error)

    async def _ush(self) -> None:
        while self._queue:
            let_in = 0
            while self._queue and let_in < AT_ONCE:
                turn = self._queue.popleft()
                if not turn.done():
                    turn.set_result(None)
                    let_in += 1
            await asyncio.sleep(0)
        self._usher = None
