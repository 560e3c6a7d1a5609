"""N simulated agents of Remesh in one process: real sessions, real sockets, no workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from rendezvous.generation import Generation
from rendezvous.membership import JobSpec
from rendezvous.session import (
    Channels,
    Disconnected,
    GenerationBegan,
    NodeIdentity,
    Operator,
    Refused,
    Session,
    Spare,
)
from rendezvous.timeouts import Timeouts

PATIENCE = 240.0


@dataclass(slots=True)
class Agent:
    session: Session
    name: str
    task: asyncio.Task[None] | None = None
    welcome: bool = False
    generation: Generation | None = None
    cuts: int = 0


class Crowd:
    """`per_channel` agents share a connection. `beat_timeout` in seconds, as in the job's spec."""

    def __init__(self, endpoint: str, size: int, *, per_channel: int, beat_timeout: float) -> None:
        self.size = size
        self._endpoint = endpoint
        self._reached: dict[int, int] = {}
        self._welcome = 0
        self._changed = asyncio.Event()
        self._stack = AsyncExitStack()
        spec = JobSpec(
            min_nodes=max(1, size // 2),
            max_nodes=size,
            last_call=600.0,
            beat_timeout=beat_timeout,
            leader_grace=max(5.0, beat_timeout, Timeouts().least_leader_grace(size)),
        )
        self.run_id = f"crowd-{size}-{time.time_ns()}"
        pools = [Channels() for _ in range(-(-size // per_channel))]
        for pool in pools:
            self._stack.push_async_callback(pool.close)
        self.agents = [
            Agent(
                Session(
                    [endpoint],
                    run_id=self.run_id,
                    node=NodeIdentity(
                        node=f"node-{i:05d}",
                        slots=8,
                        host=_host(i),
                        store_endpoint=f"{_host(i)}:{30_000 + i % 20_000}",
                    ),
                    spec=spec,
                    channels=pools[i % len(pools)],
                ),
                f"node-{i:05d}",
            )
            for i in range(size)
        ]

    async def __aenter__(self) -> Crowd:
        return self

    async def __aexit__(self, *_: object) -> None:
        # Or the job would go on losing members while the next crowd is measured.
        async with Operator([self._endpoint], deadline=PATIENCE) as operator:
            await operator.stop(self.run_id, reason="measured")
        await asyncio.gather(*(self._end(agent) for agent in self.agents if agent.task))
        await self._stack.aclose()

    async def storm(self) -> float:
        """All but the last agent join at once; seconds until the service has welcomed them."""
        began = time.perf_counter()
        for agent in self.agents[:-1]:
            await self._begin(agent)
        await self._until(lambda: self._welcome >= self.size - 1)
        return time.perf_counter() - began

    async def last_join(self) -> float:
        """The last agent joins; seconds until all have the first generation."""
        began = time.perf_counter()
        await self._begin(self.agents[-1])
        await self._until(lambda: self._reached.get(1, 0) == self.size)
        took = time.perf_counter() - began
        assert self.agents[0].generation is not None
        assert len(self.agents[0].generation.members) == self.size
        return took

    async def ready(self) -> None:
        """Every agent has a socket for the next generation's store, as after a real start."""
        for i, agent in enumerate(self.agents):
            if agent.task is not None and agent.generation is not None:
                await agent.session.listening(
                    agent.generation.number, store_endpoint=f"{_host(i)}:{50_000 + i % 9_000}"
                )
        for agent in self.agents:
            if agent.task is not None:
                await agent.session.flush()

    async def loss(self) -> float:
        """One agent vanishes; seconds until all others have the next generation."""
        victim = next(agent for agent in reversed(self.agents) if agent.task is not None)
        assert victim.generation is not None
        number, others = victim.generation.number + 1, len(victim.generation.members) - 1
        began = time.perf_counter()
        await self._end(victim)
        await self._until(lambda: self._reached.get(number, 0) == others)
        return time.perf_counter() - began

    @property
    def disturbed(self) -> int:
        """How often an agent was cut off or refused."""
        return sum(agent.cuts for agent in self.agents)

    async def _begin(self, agent: Agent) -> None:
        await agent.session.__aenter__()
        agent.task = asyncio.create_task(self._listen(agent))

    async def _end(self, agent: Agent) -> None:
        assert agent.task is not None
        agent.task.cancel()
        agent.task = None
        await agent.session.__aexit__(asyncio.CancelledError, None, None)

    async def _listen(self, agent: Agent) -> None:
        async for event in agent.session.events():
            match event:
                case GenerationBegan(generation):
                    agent.generation = generation
                    number = generation.number
                    self._reached[number] = self._reached.get(number, 0) + 1
                    self._greet(agent)
                case Spare():
                    self._greet(agent)
                case Disconnected() | Refused():
                    agent.cuts += agent.welcome
            self._changed.set()

    def _greet(self, agent: Agent) -> None:
        if not agent.welcome:
            agent.welcome = True
            self._welcome += 1

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


def _host(i: int) -> str:
    return f"10.{i // 65_536}.{i // 256 % 256}.{i % 256}"
