"""The real service and session on the simulated network, and an agent with its workers."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from rendezvous.generation import Generation
from rendezvous.membership import JobSpec
from rendezvous.security import Tokens
from rendezvous.service.metrics import Metrics
from rendezvous.service.service import Service
from rendezvous.session import (
    DrainAsked,
    DrainDone,
    GenerationBegan,
    JobEnded,
    LeaveAtBoundary,
    NodeIdentity,
    Refused,
    Session,
    Spare,
)
from rendezvous.timeouts import Timeouts
from tests.simulation.network import Network
from tests.simulation.stores import Database, RemoteStore

RUN = "job"
TIMEOUTS = Timeouts()


@contextlib.contextmanager
def simulated_time(rng: random.Random) -> Iterator[None]:
    """What the session takes from the process (clock, chance) comes from the simulation."""

    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    def chance() -> random.Random:
        return random.Random(rng.getrandbits(64))

    session = "rendezvous.session.session"
    with (
        patch(f"{session}.time", SimpleNamespace(monotonic=monotonic)),
        patch(f"{session}.random", SimpleNamespace(Random=chance)),
        patch(f"{session}.secrets", SimpleNamespace(token_bytes=rng.randbytes)),
        patch("rendezvous.store.election.random", rng),
        patch("rendezvous.store.renewal.random", rng),
    ):
        yield


class Replica:
    """One service process that can crash and come back."""

    def __init__(self, host: str, network: Network, database: Database, metrics: Metrics) -> None:
        self.host = host
        self._network, self._database, self._metrics = network, database, metrics
        self._task: asyncio.Task[None] | None = None
        self.service: Service | None = None
        self._store: RemoteStore | None = None
        self._stopping = False

    @property
    def up(self) -> bool:
        """Whether its process is there; until it is gone, it can't be started again."""
        return self._task is not None or self._stopping

    @property
    def leads(self) -> bool:
        return self._task is not None and self.service is not None and self.service.led.is_set()

    def start(self) -> None:
        self._store = RemoteStore(self._database, self._network, self.host)
        service = Service(
            self._store,
            address=f"{self.host}:1",
            tokens=Tokens,
            timeouts=TIMEOUTS,
            metrics=self._metrics,
        )
        self.service = service
        self._task = asyncio.create_task(self._run(service))

    async def _run(self, service: Service) -> None:
        async with service.candidate.standing():
            self._network.listen(self.host, lambda read, write: service.attend(read, write, ""))
            await asyncio.Event().wait()

    async def crash(self) -> None:
        """Nothing of it reaches anybody any more: not the store, not the agents."""
        task, self._task = self._task, None
        if task is None or self._store is None:
            return
        self._stopping = True
        self._store.dead = True
        self._network.stop_listening(self.host)
        task.cancel()
        await asyncio.wait([task])
        self._stopping = False

    async def hand_over(self) -> None:
        """As SIGTERM does it."""
        task, self._task = self._task, None
        if task is None or self.service is None:
            return
        self._stopping = True
        await self.service.leave(0.5)
        self._network.stop_listening(self.host)
        task.cancel()
        await asyncio.wait([task])
        self._stopping = False


class Channels:
    """Takes a session to a service by address; has the methods of the real one."""

    def __init__(self, network: Network, host: str) -> None:
        self._network, self._host = network, host

    def get(self, endpoint: str) -> Any:
        server = endpoint.partition(":")[0]

        def call(requests: None, metadata: object = None) -> Any:
            return self._network.connect(self._host, server)

        return SimpleNamespace(stream_stream=lambda method, serializer, deserializer: call)

    async def drop(self, endpoint: str) -> None:
        pass

    async def close(self) -> None:
        pass


class Agent:
    """One life of a node. Its workers enter generations, leave at boundaries, and do as told."""

    def __init__(
        self,
        node: str,
        incarnation: int,
        network: Network,
        endpoints: list[str],
        spec: JobSpec,
        rng: random.Random,
        seen: Seen,
    ) -> None:
        self.node, self.incarnation = node, incarnation
        self._network, self._endpoints, self._spec, self._rng = network, endpoints, spec, rng
        self._seen = seen
        self._sockets = 1000 * incarnation
        self._work: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self.generation: Generation | None = None
        self.running = 0
        self.draining = False
        self.drained = False
        self.refused = ""
        self.ended = ""
        seen.lives.add((node, incarnation))

    @property
    def alive(self) -> bool:
        """Whether it is there and will stay."""
        return self._task is not None and not self.draining and not self.refused

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"agent {self.node}")

    async def crash(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self._network.break_streams(self.node)
            await asyncio.wait([task])

    def check(self) -> None:
        """Raises what the agent's own code raised."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    def fail_worker(self) -> bool:
        """A worker of this node ends with an error; False if it has none."""
        if self.generation is None or self._session is None:
            return False
        report = self._session.worker_failed(
            self.generation.number,
            rank=self.generation.first_rank(self.node) or 0,
            exit_code=1,
            signal=None,
            step=-1,
            cause="simulated",
            store_endpoint=self._socket(),
        )
        self._do(report)
        return True

    def drain(self, grace: float) -> None:
        if self._session is not None:
            self.draining = True
            self._do(self._session.drain(grace=grace, reason="notice"))

    def finish(self) -> None:
        if self.generation is not None and self._session is not None:
            self._do(self._session.finished(self.generation.number, status="completed"))

    def _socket(self) -> str:
        self._sockets += 1
        return f"{self.node}:{self._sockets}"

    def _do(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        task.add_done_callback(lambda done: done.cancelled() or done.result())

    async def _run(self) -> None:
        identity = NodeIdentity(
            node=self.node,
            slots=2,
            host=self.node,
            store_endpoint=self._socket(),
            incarnation=self.incarnation,
        )
        channels: Any = Channels(self._network, self.node)
        try:
            async with Session(
                self._endpoints,
                run_id=RUN,
                node=identity,
                spec=self._spec,
                timeouts=TIMEOUTS,
                channels=channels,
            ) as session:
                self._session = session
                async for event in session.events():
                    await self._take(session, event)
                    if self.drained:
                        break
        finally:
            self._set_to_work(None)

    async def _take(self, session: Session, event: object) -> None:
        match event:
            case GenerationBegan():
                await self._begin(session, event.generation)
            case LeaveAtBoundary():
                self._set_to_work(self._leave(session, event.generation))
            case Spare():
                self.generation, self.running = None, 0
                self._set_to_work(None)
            case DrainAsked():
                self.draining = True
                await session.drain(grace=event.grace, reason=event.reason)
            case DrainDone():
                self.drained = True
                await session.leave("drained")
            case Refused() if not event.retryable:
                self.refused = event.reason
            case JobEnded():
                self.ended = event.status
                self._seen.tell(f"{self.node} hears of the end: {event.status}, {event.reason}")
                self._set_to_work(None)

    async def _begin(self, session: Session, generation: Generation) -> None:
        self._seen.began(self, generation)
        self.running = 0
        place = generation.group_rank(self.node)
        if place is None or generation.members[place].incarnation != self.incarnation:
            self.generation = None
            self._set_to_work(None)
            return
        self.generation = generation
        await session.listening(generation.number, store_endpoint=self._socket())
        self._set_to_work(self._enter(session, generation.number))

    async def _enter(self, session: Session, number: int) -> None:
        await asyncio.sleep(self._rng.uniform(0.01, 0.5))
        self.running = number
        await session.running(number)

    async def _leave(self, session: Session, number: int) -> None:
        await asyncio.sleep(self._rng.uniform(0.01, 0.4))
        self.running = 0
        await session.left(number, version=7, store_endpoint=self._socket())

    def _set_to_work(self, work: Any) -> None:
        if self._work is not None:
            self._work.cancel()
        self._work = None if work is None else asyncio.ensure_future(work)


class Seen:
    """What agents were told, all of them together; it must make sense."""

    def __init__(self, database: Database, spec: JobSpec, tell: Callable[[str], None]) -> None:
        self._database, self._spec, self.tell = database, spec, tell
        self.lives: set[tuple[str, int]] = set()
        self.generations: dict[int, tuple[tuple[str, int], ...]] = {}
        self._told: dict[tuple[str, int], int] = {}

    def began(self, agent: Agent, generation: Generation) -> None:
        number = generation.number
        members = tuple((member.node, member.incarnation) for member in generation.members)
        assert not self._database.complaints, self._database.complaints[0]
        # One write may stand for several that waited for it.
        stored = max(self._database.numbers, default=0)
        assert number <= stored, f"{number} was told before it was stored"
        if number not in self.generations:
            names = " ".join(f"{node}/{incarnation}" for node, incarnation in members)
            self.tell(f"generation {number}: {names} ({generation.reason})")
        assert self.generations.setdefault(number, members) == members, f"two generations {number}"
        assert len({node for node, _ in members}) == len(members)
        assert self._spec.min_nodes <= len(members) <= self._spec.max_nodes
        assert len(members) % self._spec.node_multiple == 0
        assert set(members) <= self.lives, "a member that never joined"
        life = (agent.node, agent.incarnation)
        assert number > self._told.get(life, 0), "an agent was told numbers that don't grow"
        self._told[life] = number
        before = self.generations.get(number - 1, ())
        stayed = [member for member in before if member in members]
        assert [member for member in members if member in stayed] == stayed, "survivors moved"
