"""Agents for tests of the rendezvous: a real session, and a worker that only counts its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType

from rendezvous.generation import Generation
from rendezvous.membership import JobSpec
from rendezvous.security import Security
from rendezvous.session import (
    Channels,
    Disconnected,
    DrainAsked,
    DrainDone,
    GenerationBegan,
    JobEnded,
    LeaveAtBoundary,
    NodeIdentity,
    Reconnected,
    Refused,
    Session,
    SessionEvent,
)
from rendezvous.timeouts import Timeouts

PATIENCE = 60.0
STEP = 0.01

# Loaded test machines don't beat on time; how fast a loss is noticed is the benchmark's matter.
PATIENT = {"beat_timeout": 8.0, "reconnect_grace": 0.5, "leader_grace": 12.0}


def spec_of(least: int, most: int, **more: float) -> JobSpec:
    return JobSpec(
        **{  # type: ignore[arg-type]
            "min_nodes": least,
            "max_nodes": most,
            "last_call": 0.2,
            "grow_interval": 0.1,
            **PATIENT,
            **more,
        }
    )


class Attendant:
    """Does what an agent does when it hears something; remembers all of it."""

    def __init__(
        self,
        endpoints: Sequence[str],
        node: str,
        *,
        spec: JobSpec,
        run_id: str = "job",
        slots: int = 2,
        incarnation: int | None = None,
        security: Security | None = None,
        timeouts: Timeouts | None = None,
        channels: Channels | None = None,
        read_security: Callable[[], Security] | None = None,
    ) -> None:
        self.node = node
        self.heard: list[SessionEvent] = []
        self.generations: list[Generation] = []
        self.steps = 0
        self.connected = True
        self._ports = 20_000
        life = {} if incarnation is None else {"incarnation": incarnation}
        self.session = Session(
            endpoints,
            run_id=run_id,
            node=NodeIdentity(
                node=node,
                slots=slots,
                host="127.0.0.1",
                store_endpoint=self._next_store(),
                **life,  # type: ignore[arg-type]
            ),
            spec=spec,
            security=security,
            timeouts=timeouts,
            channels=channels,
            read_security=read_security,
        )
        self._changed = asyncio.Condition()
        self._working = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Attendant:
        await self.session.__aenter__()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._work())]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        # Without a word, as if killed: leaving in order is for the test to do.
        await self.session.__aexit__(asyncio.CancelledError, None, None)

    async def vanish(self) -> None:
        """End without a word, as if killed."""
        await self.__aexit__(None, None, None)

    @property
    def generation(self) -> Generation | None:
        return self.generations[-1] if self.generations else None

    @property
    def members(self) -> list[str]:
        """Of its last generation, in the order of ranks."""
        return [m.node for m in self.generation.members] if self.generation else []

    async def until(self, holds: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Return when `holds()` after something was heard."""
        try:
            async with asyncio.timeout(patience), self._changed:
                await self._changed.wait_for(holds)
        except TimeoutError:
            raise AssertionError(f"{self.node} waited in vain; it heard {self.heard}") from None

    async def until_generation(self, number: int) -> Generation:
        await self.until(lambda: self.generation is not None and self.generation.number >= number)
        assert self.generation is not None
        return self.generation

    async def until_heard(self, kind: type[SessionEvent]) -> SessionEvent:
        await self.until(lambda: any(isinstance(event, kind) for event in self.heard))
        return next(event for event in self.heard if isinstance(event, kind))

    async def until_steps(self, more: int) -> None:
        """Return when the worker has done so many further steps."""
        goal = self.steps + more
        await self.until(lambda: self.steps >= goal)

    async def fail_worker(self, rank: int, cause: str = "a test") -> None:
        assert self.generation is not None
        await self.session.worker_failed(
            self.generation.number,
            rank=rank,
            exit_code=None,
            signal=9,
            step=self.steps,
            cause=cause,
            store_endpoint=self._next_store(),
        )

    def _next_store(self) -> str:
        self._ports += 1
        return f"127.0.0.1:{self._ports}"

    async def _listen(self) -> None:
        async for event in self.session.events():
            await self._react(event)
            async with self._changed:
                self.heard.append(event)
                self._changed.notify_all()
        self._working.clear()

    async def _react(self, event: SessionEvent) -> None:
        match event:
            case GenerationBegan(generation):
                self.generations.append(generation)
                number = generation.number
                if generation.group_rank(self.node) is None:
                    self._working.clear()
                    return
                self._working.set()
                await self.session.listening(number, store_endpoint=self._next_store())
                await self.session.running(number)
            case LeaveAtBoundary(number, _):
                self._working.clear()
                await self.session.left(
                    number, version=self.steps, store_endpoint=self._next_store()
                )
            case DrainAsked(reason, grace):
                await self.session.drain(grace=grace, reason=reason)
            case DrainDone():
                await self.session.leave("drained")
            case JobEnded() | Refused(retryable=False):
                self._working.clear()
            case Disconnected():
                self.connected = False
            case Reconnected():
                self.connected = True

    async def _work(self) -> None:
        while True:
            await self._working.wait()
            await asyncio.sleep(STEP)
            async with self._changed:
                self.steps += 1
                self._changed.notify_all()


class Crew:
    """Attendants of one job that end together: `async with Crew(endpoints, spec) as crew`."""

    def __init__(self, endpoints: Sequence[str], spec: JobSpec, **options: object) -> None:
        self._endpoints, self._spec, self._options = endpoints, spec, options
        self._stack = AsyncExitStack()
        self.all: list[Attendant] = []

    async def __aenter__(self) -> Crew:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def join(self, *nodes: str, **options: object) -> list[Attendant]:
        """One attendant for each name."""
        fresh = [
            Attendant(
                self._endpoints,
                node,
                spec=self._spec,
                **{**self._options, **options},  # type: ignore[arg-type]
            )
            for node in nodes
        ]
        for attendant in fresh:
            await self._stack.enter_async_context(attendant)
        self.all += fresh
        return fresh

    async def formed(self, number: int, of: Sequence[Attendant] | None = None) -> Generation:
        """All of them have heard of generation `number` or a later one, the same for all."""
        members = self.all if of is None else of
        heard = [await attendant.until_generation(number) for attendant in members]
        assert len({g.number for g in heard}) == 1, [g.number for g in heard]
        assert all(g == heard[0] for g in heard)
        return heard[0]
