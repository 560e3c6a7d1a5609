"""Stand-in for the session, for one node without a service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from rendezvous.generation import Generation, Member
from rendezvous.session.events import GenerationBegan, JobEnded, SessionEvent
from rendezvous.session.identity import NodeIdentity


class AloneSession:
    """Publishes to itself."""

    def __init__(self, node: NodeIdentity, max_restarts: int) -> None:
        self._node = node
        self._max_restarts = max_restarts
        self._endpoint = node.store_endpoint
        self._number = 0
        self._restarts = 0
        self._queue: asyncio.Queue[SessionEvent] = asyncio.Queue()

    async def __aenter__(self) -> AloneSession:
        self._publish("first generation")
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def _publish(self, reason: str) -> None:
        self._number += 1
        member = Member(
            node=self._node.node,
            incarnation=1,
            slots=self._node.slots,
            host=self._node.host,
            store_endpoint=self._endpoint,
        )
        self._queue.put_nowait(
            GenerationBegan(
                Generation(
                    number=self._number, members=(member,), reason=reason, restarts=self._restarts
                )
            )
        )

    async def events(self) -> AsyncIterator[SessionEvent]:
        while True:
            event = await self._queue.get()
            yield event
            if isinstance(event, JobEnded):
                return

    async def listening(self, generation: int, *, store_endpoint: str) -> None:
        self._endpoint = store_endpoint

    async def running(self, generation: int, *, store_endpoint: str = "") -> None:
        pass

    async def left(
        self, generation: int, *, version: int, store_endpoint: str = "", cause: str = ""
    ) -> None:
        self._publish(cause or "left")

    async def worker_failed(
        self,
        generation: int,
        *,
        rank: int,
        exit_code: int | None,
        signal: int | None,
        step: int,
        cause: str,
        store_endpoint: str = "",
    ) -> None:
        if generation != self._number:
            return
        if self._restarts >= self._max_restarts:
            self._queue.put_nowait(JobEnded("failed", cause))
            return
        self._restarts += 1
        self._publish(cause)

    async def drain(self, *, grace: float, reason: str) -> None:
        pass

    async def finished(self, generation: int, *, status: str, reason: str = "") -> None:
        self._queue.put_nowait(JobEnded(status, reason or "all workers are done"))

    async def leave(self, reason: str = "") -> None:
        pass

    def report(self, status: Mapping[str, str]) -> None:
        pass
