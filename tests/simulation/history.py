"""One history: a cluster, a list of faults drawn from a seed, and what must hold in the end."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from rendezvous.membership import JobSpec
from rendezvous.service.metrics import Metrics
from tests.simulation.actors import RUN, TIMEOUTS, Agent, Replica, Seen, simulated_time
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Network
from tests.simulation.stores import STORE, Database

QUIET = 4.0
NOISE = 25.0
PROGRESS = 60.0

METRICS = Metrics()


@dataclass(slots=True)
class History:
    """`story` tells what happened, for whoever must understand a failure."""

    seed: int
    control_plane_only: bool
    story: list[str] = field(default_factory=list)
    generations: int = 0
    faults: int = 0

    def run(self) -> None:
        """Raises AssertionError where a promise was broken."""
        rng = random.Random(self.seed)
        loop = SimulatedLoop()
        loop.set_exception_handler(self._unseen)
        # A collection ends forgotten generators, at a moment that no seed determines.
        gc.disable()
        try:
            with simulated_time(rng):
                loop.run_until_complete(self._run(rng))
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.close()
            gc.enable()

    def _unseen(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error that nobody asked for: of a task that was forgotten, as in a crash."""
        self.story.append(f"{loop.time():7.3f} {context['message']}: {context.get('exception')!r}")

    async def _run(self, rng: random.Random) -> None:
        cluster = Cluster(rng, self)
        cluster.start()
        await asyncio.sleep(QUIET)
        await cluster.make_noise(control_plane_only=self.control_plane_only)
        await cluster.heal()
        await cluster.progress()
        if self.control_plane_only:
            assert list(cluster.seen.generations) == [1], "the service's faults moved the members"
        await cluster.finish()
        assert not cluster.database.complaints, cluster.database.complaints[0]
        self.generations = len(cluster.seen.generations)


class Cluster:
    def __init__(self, rng: random.Random, history: History) -> None:
        self._rng, self._history = rng, history
        self._loop = asyncio.get_running_loop()
        self.network = Network(rng)
        self.database = Database()
        replicas = rng.choice((1, 2, 3))
        self.replicas = [
            Replica(f"s{i}", self.network, self.database, METRICS) for i in range(replicas)
        ]
        least = rng.choice((1, 2, 2, 3))
        self.spec = JobSpec(
            min_nodes=least,
            max_nodes=rng.choice((3, 4)),
            max_restarts=1000,
            node_failures=1000,
            last_call=0.5,
            grow_interval=3.0,
            boundary_timeout=5.0,
            wait=1e5,
            join_timeout=1e5,
        )
        self.seen = Seen(self.database, self.spec, self.tell)
        self.agents: dict[str, Agent] = {}
        self._lives: dict[str, int] = {}
        self._names = [f"n{i}" for i in range(rng.choice((3, 4, 5)))]

    def tell(self, what: str) -> None:
        self._history.story.append(f"{self._loop.time():7.3f} {what}")

    def start(self) -> None:
        for replica in self.replicas:
            replica.start()
        for name in self._names:
            self.start_agent(name)

    def start_agent(self, name: str) -> None:
        self._lives[name] = self._lives.get(name, 0) + 1
        endpoints = [f"{replica.host}:1" for replica in self.replicas]
        agent = Agent(
            name, self._lives[name], self.network, endpoints, self.spec, self._rng, self.seen
        )
        self.agents[name] = agent
        agent.start()

    # Noise

    async def make_noise(self, *, control_plane_only: bool) -> None:
        faults: list[Callable[[], Awaitable[None]]] = [
            self._crash_service,
            self._hand_over,
            self._cut_service_from_store,
            self._store_down,
        ]
        if not control_plane_only:
            faults += [
                self._crash_agent,
                self._crash_agent,
                self._cut_agent,
                self._break_streams,
                self._slow_host,
                self._fail_worker,
                self._drain,
                self._scale,
                self._cut_agent_from_one,
                self._depose,
            ]
        end = self._loop.time() + NOISE
        count = self._rng.randint(1, 8)
        for moment in sorted(self._rng.uniform(self._loop.time(), end) for _ in range(count)):
            await asyncio.sleep(max(0.0, moment - self._loop.time()))
            self._history.faults += 1
            await self._rng.choice(faults)()
            if self._rng.random() < 0.3:
                await self._rng.choice(faults)()
        await asyncio.sleep(max(0.0, end - self._loop.time()))

    def _later(self, least: float, most: float, act: Callable[[], None]) -> None:
        self._loop.call_later(self._rng.uniform(least, most), act)

    def _leader_or_any(self) -> Replica:
        leading = [replica for replica in self.replicas if replica.leads]
        if leading and self._rng.random() < 0.7:
            return leading[0]
        return self._rng.choice(self.replicas)

    def _restart(self, replica: Replica) -> None:
        def start() -> None:
            if not replica.up:
                self.tell(f"{replica.host} starts")
                replica.start()

        self._later(0.1, 15.0, start)

    async def _crash_service(self) -> None:
        replica = self._leader_or_any()
        self.tell(f"{replica.host} crashes (leading: {replica.leads})")
        await replica.crash()
        self._restart(replica)

    async def _hand_over(self) -> None:
        replica = self._leader_or_any()
        self.tell(f"{replica.host} is told to stop (leading: {replica.leads})")
        await replica.hand_over()
        self._restart(replica)

    async def _cut_service_from_store(self) -> None:
        replica = self._leader_or_any()
        self.tell(f"{replica.host} is cut off from the store (leading: {replica.leads})")
        self.network.cut(replica.host, STORE)
        self._later(0.1, 12.0, lambda: self.network.mend(replica.host, STORE))

    async def _depose(self) -> None:
        """A leader decides something, cannot store it, and another leads when it finally can."""
        leading = [replica for replica in self.replicas if replica.leads]
        if not leading:
            return
        self.tell(f"{leading[0].host}, leading, is cut off from the store, and workers fail")
        self.network.cut(leading[0].host, STORE)
        self._later(6.0, 14.0, lambda: self.network.mend(leading[0].host, STORE))
        for _ in range(2):
            await self._fail_worker()
            await asyncio.sleep(self._rng.uniform(0.0, 6.0))
        await self._crash_agent()

    async def _store_down(self) -> None:
        self.tell("the store is down")
        self.database.up = False

        def up() -> None:
            self.database.up = True

        self._later(0.1, 15.0, up)

    def _agent(self) -> Agent:
        return self.agents[self._rng.choice(self._names)]

    async def _crash_agent(self) -> None:
        agent = self._agent()
        self.tell(f"{agent.node} crashes")
        silently = self._rng.random() < 0.5
        if silently:
            self._isolate(agent.node)
        await agent.crash()

        def back() -> None:
            if self.agents[agent.node] is agent:
                self.tell(f"{agent.node} starts anew")
                self._rejoin(agent.node)
                self.start_agent(agent.node)

        self._later(0.05, 10.0, back)

    def _isolate(self, node: str) -> None:
        for replica in self.replicas:
            self.network.cut(node, replica.host)

    def _rejoin(self, node: str) -> None:
        for replica in self.replicas:
            self.network.mend(node, replica.host)

    async def _cut_agent(self) -> None:
        agent = self._agent()
        self.tell(f"{agent.node} is cut off from all services")
        self._isolate(agent.node)
        self._later(0.05, 12.0, lambda: self._rejoin(agent.node))

    async def _cut_agent_from_one(self) -> None:
        agent, replica = self._agent(), self._leader_or_any()
        self.tell(f"{agent.node} is cut off from {replica.host}")
        self.network.cut(agent.node, replica.host)
        self._later(0.05, 12.0, lambda: self.network.mend(agent.node, replica.host))

    async def _break_streams(self) -> None:
        replica = self._leader_or_any()
        self.tell(f"all streams to {replica.host} break")
        self.network.break_streams(replica.host)

    async def _slow_host(self) -> None:
        host = self._rng.choice([*self._names, *(replica.host for replica in self.replicas)])
        self.tell(f"{host} is slow")
        self.network.slow_down(host)

    async def _fail_worker(self) -> None:
        agent = self._agent()
        if agent.alive and agent.fail_worker():
            self.tell(f"a worker of {agent.node} fails")

    async def _drain(self) -> None:
        staying = [agent for agent in self.agents.values() if agent.alive]
        if len(staying) <= self.spec.min_nodes + 1:
            return
        agent = self._rng.choice(staying)
        self.tell(f"{agent.node} drains")
        agent.drain(self._rng.uniform(0.5, 20.0))

    async def _scale(self) -> None:
        nodes = self._rng.randint(self.spec.min_nodes, self.spec.max_nodes)
        for replica in self.replicas:
            if replica.leads and replica.service is not None:
                self.tell(f"scale to {nodes}")
                wish = replica.service.operate(
                    RUN, "", lambda job: lambda now: job.scale(nodes, now)
                )
                task = asyncio.ensure_future(wish)
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
                return

    # Quiet

    async def heal(self) -> None:
        self.tell("all faults end")
        self.network.heal()
        self.database.up = True
        for replica in self.replicas:
            if not replica.up:
                replica.start()
        for name, agent in list(self.agents.items()):
            if agent.draining:
                await agent.crash()
            if not agent.alive or agent.ended:
                await agent.crash()
                self.start_agent(name)

    async def progress(self) -> None:
        """All are there, and enough of them run one generation, and it lasts."""
        await asyncio.sleep(TIMEOUTS.lease + self.spec.leader_grace)
        await self._until(self._all_run, "no generation of all nodes that fit")
        number = max(self.seen.generations)
        await asyncio.sleep(self.spec.grow_interval + 2.0)
        assert max(self.seen.generations) == number, "a generation ended for no reason"

    def _all_run(self) -> bool:
        for agent in self.agents.values():
            agent.check()
        target = self._target()
        running = [a for a in self.agents.values() if a.generation and a.running]
        numbers = {agent.running for agent in running}
        wanted = self.spec.fitting(min(len(self.agents), target))
        return len(numbers) == 1 and len(running) == wanted

    def _target(self) -> int:
        for replica in self.replicas:
            if replica.leads and replica.service is not None:
                keeper = replica.service._keepers.get(RUN)
                record = keeper.job._membership.record if keeper else None
                if record is not None and record.target is not None:
                    return record.target
        return self.spec.max_nodes

    async def finish(self) -> None:
        for agent in self.agents.values():
            agent.finish()
        await self._until(
            lambda: all(agent.ended == "completed" for agent in self.agents.values()),
            "not everybody heard of the end",
        )

    async def _until(self, holds: Callable[[], bool], otherwise: str) -> None:
        end = self._loop.time() + PROGRESS
        while not holds():
            assert self._loop.time() < end, f"{otherwise} within {PROGRESS} s"
            await asyncio.sleep(0.25)
