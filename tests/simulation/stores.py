"""A store that is reached over the simulated network, and remembers what was done to it.

What it promises its clients is what `rendezvous.store.port` says. A write whose answer is late may
have been made, may not have been, or may be made later, when its author has already given up.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

from rendezvous.errors import OutcomeUnknown, StoreUnavailable
from rendezvous.service.records import LEADER, LeaderRecord, decode_record, run_id_of
from rendezvous.store import (
    Changes,
    Compacted,
    Entry,
    Guard,
    Lease,
    MemoryStore,
    Put,
    Snapshot,
    Write,
)
from tests.simulation.network import Network

STORE = "store"
DEADLINE = 1.0
T = TypeVar("T")


class Database:
    """The store itself: up or down, with every generation that was ever written.

    A broken promise is noted, not raised: it must not look like an error of whoever wrote.
    """

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.up = True
        self.numbers: list[int] = []
        self.complaints: list[str] = []
        self._generations: dict[int, str] = {}

    async def txn(
        self, guards: Sequence[Guard], writes: Sequence[Write], *, author: str
    ) -> int | None:
        """`author` is the host that asks for it."""
        leader = await self.memory.get(LEADER)
        revision = await self.memory.txn(guards, writes)
        if revision is not None:
            for write in writes:
                if isinstance(write, Put) and run_id_of(write.key):
                    self._remember(write, author, leader)
        return revision

    def _remember(self, put: Put, author: str, leader: Entry | None) -> None:
        led = LeaderRecord.decode(leader.value).address if leader is not None else "nobody"
        if led.partition(":")[0] != author:
            self.complaints.append(f"{author} wrote a record while {led} led")
        record = decode_record(put.value)
        if record.generation is None:
            return
        number = record.generation.number
        plain = json.dumps(record.generation.to_dict(), sort_keys=True)
        if self._generations.setdefault(number, plain) != plain:
            self.complaints.append(f"{number} was used twice")
        if number < max(self.numbers, default=0):
            self.complaints.append(f"generation {number} was written after {max(self.numbers)}")
        self.numbers.append(number)


class RemoteStore:
    """A Store as one host sees it."""

    def __init__(self, database: Database, network: Network, host: str) -> None:
        self._database, self._network, self._host = database, network, host
        self.dead = False

    async def get(self, key: str) -> Entry | None:
        return await self._call(lambda: self._database.memory.get(key), StoreUnavailable)

    async def list(self, prefix: str) -> Snapshot:
        return await self._call(lambda: self._database.memory.list(prefix), StoreUnavailable)

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        memory = self._database.memory
        return await self._call(lambda: memory.put(key, value, lease=lease), OutcomeUnknown)

    async def delete(self, key: str) -> bool:
        return await self._call(lambda: self._database.memory.delete(key), OutcomeUnknown)

    async def txn(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        return await self._call(
            lambda: self._database.txn(guards, writes, author=self._host), OutcomeUnknown
        )

    async def grant(self, ttl: float) -> Lease:
        return await self._call(lambda: self._database.memory.grant(ttl), OutcomeUnknown)

    async def keep_alive(self, lease: int) -> float:
        return await self._call(lambda: self._database.memory.keep_alive(lease), StoreUnavailable)

    def renewer(self) -> None:
        """Threads have no place in simulated time."""

    async def revoke(self, lease: int) -> None:
        await self._call(lambda: self._database.memory.revoke(lease), OutcomeUnknown)

    async def watch(self, prefix: str, *, start: int) -> AsyncGenerator[Changes | Compacted, None]:
        async with aclosing(self._database.memory.watch(prefix, start=start)) as changes:
            async for told in changes:
                await asyncio.sleep(self._network.delay(STORE, self._host))
                await self._network.passable(STORE, self._host)
                yield told

    @property
    def trouble(self) -> str:
        return ""

    async def claim(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def _call(self, act: Callable[[], Awaitable[T]], unknown: type[Exception]) -> T:
        """There, and back: the deadline may pass on either way."""
        if self.dead:
            raise StoreUnavailable(f"{self._host} is dead")
        network = self._network
        away = not network.reaches(self._host, STORE) or not self._database.up
        if away and network.rng.random() < 0.7:
            await asyncio.sleep(network.rng.choice((0.001, 0.05, DEADLINE)))
            raise StoreUnavailable("no connection")
        request = asyncio.ensure_future(self._carry(act))
        # It goes its way, even when nobody waits for it any more.
        request.add_done_callback(lambda task: task.cancelled() or task.exception())
        done, _ = await asyncio.wait([request], timeout=DEADLINE)
        if not done or (network.rng.random() < 0.01):
            raise unknown("no answer in time")
        return request.result()

    async def _carry(self, act: Callable[[], Awaitable[T]]) -> T:
        network = self._network
        await asyncio.sleep(network.delay(self._host, STORE))
        await network.passable(self._host, STORE)
        while not self._database.up:
            await asyncio.sleep(0.2)
        result = await act()
        await asyncio.sleep(network.delay(STORE, self._host))
        await network.passable(STORE, self._host)
        return result
