"""An agent's part in the rendezvous: its session, and the sockets it listens on ahead of time."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from types import TracebackType

from rendezvous.errors import ConfigurationError
from rendezvous.generation import Generation
from rendezvous.membership import JobSpec
from rendezvous.security import Security
from rendezvous.session import NodeIdentity, Session, SessionEvent
from trainer.agent import actions as act
from trainer.agent import shortage
from trainer.agent.actions import Action
from trainer.agent.endpoint import StoreSocket, address_towards
from trainer.agent.launch import Launch, Loop, Script
from trainer.agent.process import SIGNAL_EXIT_BASE
from trainer.errors import JobError, NoPort

LOOPBACK = "127.0.0.1"
ALONE_PATIENCE = 60.0
OPEN_SECONDS = 5.0
"""How long a node of a run tries to open a port before it gives itself up: a shortage of
descriptors passes with whatever has taken them, or stays."""
PAUSE_SECONDS = 0.2
"""Between two tries."""


class Attendance:
    """An async context manager around the session.

    A generation's store is served on a socket that nobody used before, so one is always open
    ahead: named when joining, and anew as soon as one was used up.
    """

    def __init__(self, launch: Launch, node: str) -> None:
        """Raises JobError when no socket can be opened."""
        self.labels: dict[str, str] = dict(launch.labels)
        self._launch = launch
        self._node = node
        endpoints = launch.membership.endpoints
        self.host = launch.local_address or (
            address_towards(endpoints[0]) if endpoints else LOOPBACK
        )
        try:
            self._next = self._open()
        except NoPort as error:
            raise JobError(str(error)) from error
        self._used: dict[int, StoreSocket] = {}
        self._stack = AsyncExitStack()
        self._session: Session | None = None

    async def __aenter__(self) -> Attendance:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()
        for store in (self._next, *self._used.values()):
            store.release()

    async def events(self, heard: int) -> AsyncIterator[SessionEvent]:
        """Join, and hear what happens. `heard`: the last generation of an earlier start."""
        identity = NodeIdentity(
            node=self._node,
            slots=self._launch.slots,
            host=self.host,
            store_endpoint=self._next.endpoint,
            labels=self.labels,
        )
        # Loaded after the workers have begun to start: they take longer.
        from rendezvous.service import embedded

        asked = self._launch.membership

        def read_security() -> Security:
            return Security.from_files(**asked.credentials)

        options = dict(asked.options)
        if not asked.endpoints:
            # The service is a part of this very process: its silence would be our own.
            options |= {"beat_timeout": ALONE_PATIENCE, "leader_grace": ALONE_PATIENCE}
        try:
            spec = JobSpec(
                min_nodes=asked.min_nodes,
                max_nodes=asked.max_nodes,
                max_restarts=asked.max_restarts,
                **options,
            )
            endpoints, security = asked.endpoints, read_security()
            if not endpoints:
                # Nobody else is to stop this run, or to see it: the token is in no file.
                security = Security(token=secrets.token_hex())
                assert security.token is not None
                within = embedded(security.token)
                endpoints = (await self._stack.enter_async_context(within),)
            session = Session(
                endpoints,
                run_id=self._launch.run_id,
                node=identity,
                spec=spec,
                security=security,
                heard=heard,
                read_security=read_security if asked.endpoints else None,
            )
        except (ValueError, ConfigurationError) as error:
            raise JobError(f"the rendezvous can't be joined: {error}") from error
        self._session = await self._stack.enter_async_context(session)
        async for event in self._session.events():
            yield event

    async def began(self, generation: Generation) -> None:
        """Keep the socket this generation uses, and open the next one.

        Raises NoPort where none can be opened for OPEN_SECONDS: this node could be asked to serve
        the store of the generation to come.
        """
        for number in [n for n in self._used if n < generation.number]:
            self._used.pop(number).release()
        if generation.store_endpoint == self._next.endpoint:
            self._used[generation.number] = self._next
            self._next = await self._open_in_time()
        if self._session is not None:
            await self._session.listening(generation.number, store_endpoint=self._next.endpoint)

    def take_socket(self, generation: int) -> StoreSocket | None:
        """The socket of a generation that this node hosts; it is handed out once."""
        return self._used.pop(generation, None)

    async def tell(self, action: Action) -> None:
        """Report to the service; returns at once."""
        session, store = self._session, self._next.endpoint
        if session is None:
            return
        match action:
            case act.TellRunning(generation):
                await session.running(generation, store_endpoint=store)
            case act.TellLeft(generation, version, cause):
                await session.left(
                    generation,
                    version=version,
                    store_endpoint=store,
                    cause=cause,
                    stepped=action.stepped,
                )
            case act.TellFailed(generation, rank, code, number, step, cause):
                if number is not None and isinstance(self._launch.workers, Script):
                    # As under torchrun every failure of a script counts, also a kill from outside.
                    code, number = SIGNAL_EXIT_BASE + number, None
                await session.worker_failed(
                    generation,
                    rank=rank,
                    exit_code=code,
                    signal=number,
                    step=step,
                    cause=cause,
                    store_endpoint=store,
                    error=action.error,
                    whole=action.whole,
                )
            case act.TellFinished(generation, status, reason, whole):
                await session.finished(generation, status=status, reason=reason, whole=whole)
            case act.TellDrain(grace, reason):
                await session.drain(grace=grace, reason=reason)

    def report(self, status: Mapping[str, str]) -> None:
        """A few words for the service's own status."""
        if self._session is not None:
            self._session.report(status)

    async def leave(self, reason: str) -> None:
        """Say goodbye."""
        if self._session is not None:
            await self._session.leave(reason)

    async def _open_in_time(self) -> StoreSocket:
        deadline = time.monotonic() + OPEN_SECONDS
        while True:
            try:
                return self._open()
            except NoPort as error:
                if time.monotonic() >= deadline:
                    raise NoPort(f"{error}; tried for {OPEN_SECONDS:g} s") from error
            await asyncio.sleep(PAUSE_SECONDS)

    def _open(self) -> StoreSocket:
        listen = isinstance(self._launch.workers, Loop)
        try:
            return StoreSocket(self.host, listen=listen)
        except OSError as error:
            mend = shortage.mend(error) or "give an address of this machine with --local-addr"
            raise NoPort(
                f"no port can be opened on {self.host} ({error.strerror}); {mend}"
            ) from error
