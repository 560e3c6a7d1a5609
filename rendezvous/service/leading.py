"""Who leads: stands for election, and knows the leader when it is another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from rendezvous.complaints import Complaints
from rendezvous.errors import StoreError
from rendezvous.service.records import LEADER, LeaderRecord
from rendezvous.store import Changes, Entry, Leadership, Snapshot, Store, elect, follow
from rendezvous.supervision import awaited, for_good, logged, start_task

log = logging.getLogger(__name__)

PAUSE_AFTER_ERROR = 0.5
LOOK_AGAIN = 10.0
"""Seconds after which it is asked again who leads, whatever the watch has told."""
PAUSE_AFTER_FAILURE = 5.0
"""Elections are writes to the store: a replica that can't lead makes no more than these few."""

Lead = Callable[[Leadership], Coroutine[Any, Any, None]]


class Candidate:
    """Stands for election for good; `lead` runs for as long as this replica leads."""

    def __init__(self, store: Store, *, address: str, lease: float, lead: Lead) -> None:
        self._store = store
        self._address = address
        self._lease = lease
        self._lead = lead
        self._changed = asyncio.Event()
        self._complaints = Complaints()
        self._standing: asyncio.Task[None] | None = None
        self.leader = ""
        """Address of the leader as the store tells it; empty while there is none."""

    @asynccontextmanager
    async def standing(self) -> AsyncIterator[None]:
        self._standing = self._for_good(self._stand, "election")
        following = self._for_good(self._follow, "who leads")
        try:
            yield
        finally:
            await self.withdraw()
            following.cancel()
            await asyncio.wait([following])

    def _for_good(
        self, body: Callable[[], Coroutine[Any, Any, None]], name: str
    ) -> asyncio.Task[None]:
        lasting = for_good(body, name=name, pause=PAUSE_AFTER_ERROR)
        return start_task(lasting, name=name, failed=awaited)

    async def withdraw(self) -> None:
        """Stop leading, or standing; the next one is let in at once."""
        if self._standing is not None:
            self._standing.cancel()
            await asyncio.wait([self._standing])

    async def successor(self, timeout: float) -> str:
        """Who leads after this one has resigned; empty when nobody does in time."""
        try:
            async with asyncio.timeout(timeout):
                while self.leader in ("", self._address):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return ""
        return self.leader

    async def _stand(self) -> None:
        record = LeaderRecord(address=self._address).encode()
        while True:
            try:
                leadership = await elect(
                    self._store, LEADER, record, ttl=self._lease, own_thread=True
                )
            except StoreError as error:
                if self._complaints.due("election", asyncio.get_running_loop().time()):
                    log.error("cannot stand for election: %s", error)
                await asyncio.sleep(PAUSE_AFTER_ERROR)
                continue
            self._complaints.over("election")
            log.info("leading, with token %d", leadership.token)
            leading = start_task(self._lead(leadership), name="leading", failed=logged)
            lost = start_task(leadership.lost(), name="end of the leadership", failed=awaited)
            failed = False
            try:
                await asyncio.wait([leading, lost], return_when=asyncio.FIRST_COMPLETED)
                failed = leading.done()
                if not failed:
                    log.warning("no longer leading: %s%s", why := lost.result(), _mended_by(why))
            finally:
                leading.cancel()
                lost.cancel()
                await asyncio.wait([leading, lost])
                await leadership.resign()
            if failed:
                # What stopped this one would stop it again; another replica may know better.
                await asyncio.sleep(PAUSE_AFTER_FAILURE)

    async def _follow(self) -> None:
        while True:
            try:
                async for told in follow(self._store, LEADER, refresh=LOOK_AGAIN):
                    self._hear(told)
            except StoreError as error:
                log.debug("cannot see who leads: %s", error)
                self._hear_of("")
            await asyncio.sleep(PAUSE_AFTER_ERROR)

    def _hear(self, told: Snapshot | Changes) -> None:
        if isinstance(told, Snapshot):
            entry = next((e for e in told.entries if e.key == LEADER), None)
        else:
            mine = [change for change in told.changes if change.key == LEADER]
            if not mine:
                return
            entry = mine[-1].entry
        self._hear_of(_address(entry))

    def _hear_of(self, leader: str) -> None:
        self.leader = leader
        self._changed.set()


def _mended_by(why: str) -> str:
    slow = "could not be renewed" in why
    return " (if etcd answers slowly: a longer --lease, and --store-timeout)" if slow else ""


def _address(entry: Entry | None) -> str:
    if entry is None:
        return ""
    try:
        return LeaderRecord.decode(entry.value).address
    except ValueError as error:
        log.error("%s: %s", LEADER, error)
        return ""
