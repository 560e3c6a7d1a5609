"""One agent's side: it says in its own key what it wants, and hears of rounds.

That is one write a round, however many agents there are; while a round goes on there is none, for
renewing a lease writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from rendezvous.errors import LeaseLost, OutcomeUnknown, StoreError, StoreUnavailable
from rendezvous.store import Guard, Put, Snapshot, Store, follow
from rendezvous.supervision import awaited, for_good, start_task
from rendezvous.torchrun.conductor import stand_and_conduct
from rendezvous.torchrun.records import Keys, Table, encode, encode_node, encode_round
from rendezvous.torchrun.rounds import Round, Terms

log = logging.getLogger(__name__)

PAUSE = 0.2
# What is left of a finished job, so that latecomers hear of its end, is gone after this long.
REMEMBERED = 600.0


class Closed(Exception):
    """The job is done; nobody may join any more."""


class Member:
    """One agent, by the name of `node`. Its key goes when it is silent for `ttl` seconds."""

    def __init__(self, store: Store, keys: Keys, terms: Terms, *, node: str, ttl: float) -> None:
        self.node = node
        self._heard = False
        self._store = store
        self._keys = keys
        self._terms = terms
        self._ttl = ttl
        self._table = Table(keys)
        self._changed = asyncio.Event()
        self._lease = 0
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Follow the rounds, keep the lease, and conduct when no other does; until `leave`."""
        if not self._tasks:
            bodies: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
                "rounds": self._follow,
                "lease": self._stay_alive,
                "conductor": partial(
                    stand_and_conduct,
                    self._store,
                    self._keys,
                    self._terms,
                    node=self.node,
                    ttl=self._ttl,
                ),
            }
            self._tasks = [
                start_task(for_good(body, name=name, pause=PAUSE), name=name, failed=awaited)
                for name, body in bodies.items()
            ]

    async def join(self, endpoint: str, *, timeout: float) -> Round:
        """Ask for the next round and wait for it; `endpoint` is where this agent listens.

        A spare waits without end while others train. Raises Closed, TimeoutError when there was no
        round for `timeout` seconds, StoreUnavailable when the store did not answer at all, and
        StoreRefused.
        """
        self.begin()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        await self._reach(deadline)
        before = self._table.current.number
        await self._announce(before + 1, endpoint, deadline)
        while not self._table.closed:
            self._changed.clear()
            current = self._table.current
            if current.number > before and self.node in current.members:
                return current
            if not self._table.over:
                deadline = loop.time() + timeout
            elif loop.time() >= deadline:
                raise TimeoutError
            if not self._lease:
                await self._announce(current.number + 1, endpoint, deadline)
            await self._change(deadline - loop.time())
        raise Closed

    def over(self, round: Round) -> str:
        """Why `round` is to be left for another; empty while it goes on, or if the job is done."""
        table = self._table
        if table.closed:
            return ""
        if table.current.number > round.number:
            return f"round {table.current.number} has begun"
        return table.ended.reason if table.ended.number >= round.number else ""

    @property
    def closed(self) -> bool:
        return self._table.closed

    async def close(self) -> None:
        """Let nobody join any more. What stands in the store is forgotten after a while."""
        lease = (await self._store.grant(REMEMBERED)).id
        writes = [Put(self._keys.closed, encode(by=self.node), lease)]
        if self._table.current.number:
            writes.append(Put(self._keys.round, encode_round(self._table.current), lease))
            if self._table.ended.number:
                ended = encode(round=self._table.ended.number, reason=self._table.ended.reason)
                writes.append(Put(self._keys.ended, ended, lease))
        await self._store.txn([Guard.absent(self._keys.closed)], writes)

    async def leave(self) -> None:
        """Take the own key away and hand over what this agent conducts."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._lease:
            with suppress(StoreError):
                await self._store.revoke(self._lease)

    async def _reach(self, deadline: float) -> None:
        """Wait until the store answers and the rounds are known."""
        loop = asyncio.get_running_loop()
        while not self._heard:
            self._changed.clear()
            try:
                await self._store.get(self._keys.round)
                await self._change(deadline - loop.time())
            except StoreUnavailable:
                if loop.time() >= deadline:
                    raise
                await asyncio.sleep(PAUSE)

    async def _announce(self, joining: int, endpoint: str, deadline: float) -> None:
        """Set the own key; guarded, so that a lost write that comes late undoes no later one."""
        key, value = self._keys.node(self.node), encode_node(joining=joining, endpoint=endpoint)
        loop = asyncio.get_running_loop()
        while loop.time() < deadline:
            try:
                if not self._lease:
                    self._lease = (await self._store.grant(self._ttl)).id
                entry = await self._store.get(key)
                if entry is not None and entry.value == value:
                    return
                unchanged = Guard.unchanged_since(key, entry.mod_revision if entry else 0)
                if await self._store.txn([unchanged], [Put(key, value, self._lease)]):
                    return
            except LeaseLost:
                self._lease = 0
            except (StoreUnavailable, OutcomeUnknown) as error:
                log.warning("%s can't join yet: %s", self.node, error)
                await asyncio.sleep(PAUSE)
        raise TimeoutError

    async def _follow(self) -> None:
        while True:
            try:
                async with aclosing(follow(self._store, self._keys.state)) as told:
                    async for item in told:
                        if isinstance(item, Snapshot):
                            self._table.reset(item.entries)
                        else:
                            self._table.apply(item.changes)
                        self._heard = True
                        self._changed.set()
            except StoreError as error:
                log.warning("%s hears nothing of the rounds: %s", self.node, error)
            await asyncio.sleep(PAUSE)

    async def _stay_alive(self) -> None:
        while True:
            await asyncio.sleep(self._ttl / 3)
            try:
                if self._lease:
                    await self._store.keep_alive(self._lease)
            except LeaseLost as error:
                log.warning("%s was given up by the others: %s", self.node, error)
                self._lease = 0
                self._changed.set()
            except StoreError as error:
                log.warning("%s can't renew its lease: %s", self.node, error)

    async def _change(self, seconds: float | None) -> None:
        """Wait for news since `_changed` was cleared, which is to be done before looking."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
