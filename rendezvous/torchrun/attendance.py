"""One torchrun agent at the service: its session, and the stores it may come to serve."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from torch._C._distributed_c10d import TCPStore

from rendezvous.errors import RendezvousError
from rendezvous.generation import Generation
from rendezvous.session import (
    DrainAsked,
    GenerationBegan,
    NodeIdentity,
    Operator,
    Refused,
    Session,
)
from rendezvous.supervision import awaited, start_task
from rendezvous.torchrun.progress import Departure, Progress
from rendezvous.torchrun.service_settings import ServiceSettings
from rendezvous.torchrun.stores import Served, serve

log = logging.getLogger(__name__)

FAREWELL = 5.0


class Closed(Exception):
    """The job is over for this agent."""


class Drained(Exception):
    """The others go on without this agent, as an operator has asked."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A generation to enter; `store` is there if this agent serves its store."""

    generation: Generation
    rank: int
    store: TCPStore | None


class Attendance:
    """All methods but `over` and `closed` belong to the event loop of the first `enter`."""

    def __init__(self, settings: ServiceSettings, node: str) -> None:
        self.node = node
        self._settings = settings
        self._progress = Progress(node)
        self._session: Session | None = None
        self._listener: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._stores: dict[str, TCPStore] = {}
        self._next = ""
        self._silent_since = 0.0

    def over(self) -> str:
        """Why torchrun is to restart its workers in another generation; empty if it is not."""
        return self._progress.over()

    @property
    def closed(self) -> bool:
        return self._progress.closed != ""

    @property
    def refusal(self) -> str:
        """Why a service that answers does not take this node in; empty if none has said so."""
        return self._progress.refusal

    async def enter(self) -> Entry:
        """Leave the last generation, if it still stands, and wait for the next.

        A spare waits without end while it hears a service. Raises Closed, Drained, TimeoutError
        when no service was heard for `join_timeout`, RendezvousError, and OSError or RuntimeError
        when no store can be served.
        """
        await self._begin()
        progress = self._progress
        while True:
            self._changed.clear()
            if progress.drained:
                raise Drained(progress.drained)
            if progress.closed:
                raise Closed(progress.closed)
            self._raise_failure()
            if (generation := progress.enter()) is not None:
                rank = generation.group_rank(self.node)
                assert rank is not None
                own = self._stores.get(generation.store_endpoint) if rank == 0 else None
                return Entry(generation, rank, own)
            if (departure := progress.depart()) is not None:
                await self._report(*departure)
            await self._change(self._settings.join_timeout)

    async def running(self, generation: int) -> None:
        if self._session is not None:
            await self._session.running(generation)

    async def finish(self) -> None:
        """The workers are done: wait until all others are. Gives up when there is another
        generation, which this agent will not enter, or no service."""
        session, progress = self._session, self._progress
        if session is None or not progress.entered:
            return
        await session.finished(progress.entered, status="completed")
        try:
            while not (progress.closed or progress.over()):
                self._changed.clear()
                await self._change(FAREWELL)
        except TimeoutError:
            log.warning("%s ends alone: no service answers", self.node)

    async def give_up(self, reason: str) -> None:
        """The job has failed; it is over for all."""
        if self._session is not None and self._progress.entered:
            entered = self._progress.entered
            await self._session.finished(entered, status="failed", reason=reason)
            await self._session.flush()

    async def close(self) -> None:
        """Let nobody join any more. Raises Unreachable."""
        settings = self._settings
        async with Operator(settings.endpoints, security=settings.security) as operator:
            await operator.stop(settings.run_id, reason=f"closed by {self.node}")

    async def leave(self) -> None:
        """Without delay, but not without a word."""
        if self._session is None:
            return
        if not self._progress.closed:
            await self._session.leave("its agent ends")
        # All was said that matters; it need not be waited for again.
        await self._session.__aexit__(asyncio.CancelledError, None, None)
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])
        self._session = None

    async def _begin(self) -> None:
        if self._session is not None:
            return
        settings = self._settings
        self._silent_since = asyncio.get_running_loop().time()
        endpoint = self._serve_next()
        identity = NodeIdentity(
            node=self.node, slots=1, host=settings.address, store_endpoint=endpoint
        )
        session = Session(
            settings.endpoints,
            run_id=settings.run_id,
            node=identity,
            spec=settings.spec,
            security=settings.security,
            read_security=settings.read_security,
        )
        self._session = await session.__aenter__()
        self._listener = start_task(self._listen(session), name="session events", failed=awaited)

    def _serve_next(self) -> str:
        served: Served = serve(self._settings.address, timeout=self._settings.read_timeout)
        self._stores[served.endpoint] = served.store
        self._next = served.endpoint
        return served.endpoint

    async def _listen(self, session: Session) -> None:
        try:
            async for event in session.events():
                log.info("%s hears %s", self.node, type(event).__name__)
                if isinstance(event, Refused):
                    log.warning("the rendezvous service refuses %s: %s", self.node, event.reason)
                if isinstance(event, GenerationBegan):
                    await self._prepare(session, event.generation)
                elif isinstance(event, DrainAsked):
                    await session.drain(grace=event.grace, reason=event.reason)
                connected = self._progress.connected
                self._progress.hear(event)
                if connected and not self._progress.connected:
                    self._silent_since = asyncio.get_running_loop().time()
                self._changed.set()
        finally:
            self._changed.set()

    async def _prepare(self, session: Session, generation: Generation) -> None:
        """Have a store for the next generation; one that was not needed is still fresh."""
        if generation.group_rank(self.node) is None:
            return
        if generation.store_endpoint == self._next:
            self._serve_next()
            used = generation.store_endpoint
            self._stores = {name: self._stores[name] for name in (used, self._next)}
        await session.listening(generation.number, store_endpoint=self._next)

    async def _report(self, generation: int, departure: Departure) -> None:
        session = self._session
        assert session is not None
        if departure is Departure.ASKED:
            # torchrun knows no steps.
            await session.left(generation, version=0)
        else:
            rank = self._progress.rank or 0
            await session.worker_failed(
                generation,
                rank=rank,
                exit_code=None,
                signal=None,
                step=-1,
                cause=departure.value,
            )

    def _raise_failure(self) -> None:
        listener = self._listener
        if listener is not None and listener.done() and not listener.cancelled():
            listener.result()
            raise RendezvousError("the session has ended")

    async def _change(self, patience: float) -> None:
        """Wait for news; TimeoutError when no service was heard for `patience` seconds."""
        now = asyncio.get_running_loop().time()
        limit = None
        if not self._progress.connected:
            limit = max(0.0, self._silent_since + patience - now)
        async with asyncio.timeout(limit):
            await self._changed.wait()
