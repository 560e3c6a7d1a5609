"""The agent that leads: it watches all agents and writes, fenced, when rounds end and begin."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from rendezvous.errors import StoreError
from rendezvous.store import Leadership, Put, Snapshot, Store, elect, follow
from rendezvous.supervision import awaited, start_task
from rendezvous.torchrun.records import Keys, Table, encode_end, encode_round
from rendezvous.torchrun.rounds import End, Publish, Terms, Wait, decide

log = logging.getLogger(__name__)

SPREAD = 0.5
PAUSE = 1.0


async def stand_and_conduct(
    store: Store, keys: Keys, terms: Terms, *, node: str, ttl: float
) -> None:
    """Lead whenever no other agent does, for good."""
    while True:
        try:
            leadership = await elect(store, keys.leader, node.encode(), ttl=ttl, spread=SPREAD)
        except StoreError as error:
            log.warning("can't stand for election: %s", error)
            await asyncio.sleep(PAUSE)
            continue
        log.info("%s conducts the rounds", node)
        try:
            await Conductor(store, keys, terms, leadership).run()
        except StoreError as error:
            log.warning("%s conducts no longer: %s", node, error)
        finally:
            await leadership.resign()


class Conductor:
    """One leadership, which ends with the job, or when it is lost."""

    def __init__(self, store: Store, keys: Keys, terms: Terms, leadership: Leadership) -> None:
        self._store = store
        self._terms = terms
        self._keys = keys
        self._leadership = leadership
        self._table = Table(keys)
        self._changed = asyncio.Event()
        self._revision = 0
        self._quorum_since: float | None = None
        self._told = ""

    async def run(self) -> None:
        following = start_task(self._follow(), name="agents", failed=awaited)
        deciding = start_task(self._decide(), name="decisions", failed=awaited)
        lost = start_task(self._leadership.lost(), name="end of the leadership", failed=awaited)
        tasks = {following, deciding, lost}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {lost}:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _follow(self) -> None:
        async with aclosing(follow(self._store, self._keys.base)) as told:
            async for item in told:
                if isinstance(item, Snapshot):
                    self._table.reset(item.entries)
                else:
                    self._table.apply(item.changes)
                self._revision = item.revision
                self._changed.set()

    async def _decide(self) -> None:
        loop = asyncio.get_running_loop()
        await self._changed.wait()
        while not self._table.closed:
            self._changed.clear()
            now = loop.time()
            view = self._table.view()
            if len(view.waiting()) < self._terms.min_nodes:
                self._quorum_since = None
            elif self._quorum_since is None:
                self._quorum_since = now
            match decide(view, self._terms, self._quorum_since, now):
                case End() as end:
                    self._tell(f"round {end.number} is over: {end.reason}")
                    await self._write(Put(self._keys.ended, encode_end(end)))
                case Publish(round):
                    self._tell(f"round {round.number}: {round.reason}")
                    await self._write(Put(self._keys.round, encode_round(round)))
                    self._quorum_since = None
                case Wait(reason, until):
                    self._tell(reason)
                    await self._wait(None if until is None else until - now)

    async def _write(self, put: Put) -> None:
        """Decide again only when what was written is seen."""
        revision = await self._leadership.write([put])
        while revision is not None and self._revision < revision:
            await self._wait(None)

    async def _wait(self, seconds: float | None) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def _tell(self, reason: str) -> None:
        if reason != self._told:
            log.info("%s", reason)
        self._told = reason
