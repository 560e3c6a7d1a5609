"""Agents on one store in memory, on a loop whose time jumps: rounds, losses, and what they cost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from rendezvous.errors import StoreUnavailable
from rendezvous.store import Guard, MemoryStore, Write
from rendezvous.torchrun.member import Closed, Member
from rendezvous.torchrun.records import Keys
from rendezvous.torchrun.rounds import Round, Terms
from tests.virtual_time import run

KEYS = Keys("run/1")
TTL = 6.0


class Counting(MemoryStore):
    """Counts writes; `cut` ones have no way to the store."""

    writes = 0

    async def txn(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        self.writes += 1
        return await super().txn(guards, writes)


CALLS = {"get", "list", "put", "txn", "grant", "keep_alive", "revoke"}


class Wire:
    """One agent's way to the store: it takes time both ways, and can be cut."""

    def __init__(self, store: MemoryStore, seed: object = 0) -> None:
        self._store = store
        self._delays = random.Random(str(seed))
        self.cut = False

    def __getattr__(self, name: str) -> Any:
        there = getattr(self._store, name)
        if name not in CALLS:
            return there

        async def call(*arguments: Any, **options: Any) -> Any:
            if self.cut:
                raise StoreUnavailable("cut")
            await asyncio.sleep(self._delays.uniform(0.001, 0.01))
            answer = await there(*arguments, **options)
            await asyncio.sleep(self._delays.uniform(0.001, 0.01))
            return answer

        return call


class Agent:
    def __init__(self, store: MemoryStore, name: str, terms: Terms) -> None:
        self.wire = Wire(store, name)
        self.member = Member(self.wire, KEYS, terms, node=name, ttl=TTL)  # type: ignore[arg-type]
        self.rounds: list[Round] = []
        self.task = asyncio.create_task(self.live())

    async def live(self) -> None:
        """As torchrun's agent: join, train, look every 0.1 s whether to join again."""
        while True:
            round = await self.member.join(f"{self.member.node}:1", timeout=600.0)
            self.rounds.append(round)
            while not self.member.over(round):
                await asyncio.sleep(0.1)

    def die(self) -> None:
        """The process is gone, without a word."""
        self.task.cancel()
        for task in self.member._tasks:
            task.cancel()
        self.wire.cut = True

    async def leave(self) -> None:
        self.task.cancel()
        await self.member.leave()


def terms(fewest: int, most: int, last_call: float = 5.0) -> Terms:
    return Terms(min_nodes=fewest, max_nodes=most, last_call=last_call)


async def agreed(agents: Sequence[Agent], number: int) -> Round:
    """Wait until all of them are in round `number`, which must be the same to all."""
    async with asyncio.timeout(120.0):
        while not all(a.rounds and a.rounds[-1].number >= number for a in agents):
            await asyncio.sleep(0.05)
    (round,) = {agent.rounds[-1] for agent in agents}
    assert round.number == number
    assert set(round.members) == {agent.member.node for agent in agents}
    return round


def test_agents_come_die_leave_and_join() -> None:
    async def story() -> None:
        store = Counting()
        agents = [Agent(store, name, terms(2, 4)) for name in "abc"]
        first = await agreed(agents, 1)
        agents.append(Agent(store, "d", terms(2, 4)))
        second = await agreed(agents, 2)
        assert second.members == (*first.members, "d")
        agents.pop(0).die()
        third = await agreed(agents, 3)
        assert third.reason == "without a"
        await agents.pop(0).leave()
        fourth = await agreed(agents, 4)
        assert fourth.store == f"{agents[0].member.node}:1"
        for agent in agents:
            await agent.leave()
        await store.close()

    run(story())


def test_one_that_was_cut_off_for_long_comes_back() -> None:
    async def story() -> None:
        store = Counting()
        agents = [Agent(store, name, terms(2, 3)) for name in "abc"]
        await agreed(agents, 1)
        agents[1].wire.cut = True
        rest = [agents[0], agents[2]]
        await agreed(rest, 2)
        agents[1].wire.cut = False
        await agreed(agents, 3)
        for agent in agents:
            await agent.leave()
        await store.close()

    run(story())


def test_a_spare_waits_without_end_and_takes_a_place() -> None:
    async def story() -> None:
        store = Counting()
        agents = [Agent(store, name, terms(2, 2)) for name in "ab"]
        await agreed(agents, 1)
        spare = Agent(store, "c", terms(2, 2))
        await asyncio.sleep(200.0)
        assert not spare.task.done()
        assert not spare.rounds
        agents[0].die()
        await agreed([agents[1], spare], 2)
        for agent in (agents[1], spare):
            await agent.leave()
        await store.close()

    run(story())


def test_too_few_give_up_in_time_and_a_closed_run_lets_nobody_in() -> None:
    async def story() -> None:
        store = Counting()
        alone = Member(store, KEYS, terms(2, 2), node="a", ttl=TTL)
        with pytest.raises(TimeoutError):
            await alone.join("a:1", timeout=60.0)
        assert 60.0 <= asyncio.get_running_loop().time() < 70.0
        await alone.close()
        late = Member(store, KEYS, terms(1, 2), node="b", ttl=TTL)
        with pytest.raises(Closed):
            await late.join("b:1", timeout=60.0)
        assert alone.closed
        await alone.leave()
        await late.leave()
        await asyncio.sleep(1000.0)
        assert (await store.list(KEYS.base)).entries == (), "nothing is left behind"
        await store.close()

    run(story())


def test_a_store_that_never_answers_is_told_apart() -> None:
    async def story() -> None:
        wire = Wire(MemoryStore())
        wire.cut = True
        alone = Member(wire, KEYS, terms(1, 1), node="a", ttl=TTL)  # type: ignore[arg-type]
        with pytest.raises(StoreUnavailable):
            await alone.join("a:1", timeout=5.0)
        wire.cut = False
        await alone.leave()

    run(story())


def test_a_round_costs_one_write_an_agent() -> None:
    async def story() -> None:
        store = Counting()
        agents = [Agent(store, f"n{i}", terms(40, 40)) for i in range(41)]
        await asyncio.sleep(20.0)
        trained = [agent for agent in agents if agent.rounds]
        assert len(trained) == 40
        before = store.writes
        assert before <= 41 + 41 + 1, "one each, each one's attempt to lead, and the round"
        await asyncio.sleep(20.0)
        assert store.writes == before, "nothing is written while all goes well"
        trained[-1].die()
        alive = [agent for agent in agents if agent is not trained[-1]]
        await agreed(alive, 2)
        assert store.writes - before <= 40 + 3
        for agent in alive:
            await agent.leave()
        await store.close()

    run(story())


def test_what_others_write_there_disturbs_nobody() -> None:
    async def story() -> None:
        store = Counting()
        agents = [Agent(store, name, terms(2, 3)) for name in "ab"]
        await agreed(agents, 1)
        for key in (KEYS.node("x"), KEYS.ended, f"{KEYS.state}other"):
            for value in (b"", b"\xff", b"[]", b"{}", b"null"):
                await store.put(key, value)
        agents.append(Agent(store, "c", terms(2, 3)))
        await agreed(agents, 2)
        for agent in agents:
            await agent.leave()
        await store.close()

    run(story())
