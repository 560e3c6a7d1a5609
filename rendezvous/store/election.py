"""One leader at a time, and writes that only the leader can make.

A leader is who made the election key, in a transaction that demands its absence, under a lease.
The key's create revision is the leader's token: it grows from leader to leader, and every write
is guarded by it. Beside the election key stands `<key>.fence`, rewritten by every such write and
guarded by its last revision: a write whose answer got lost is thereby made once, not twice, and
one that is overtaken by its successor never. Who watches the election key by prefix sees both.

The leader watches its key too. Once that is gone another may lead, whoever removed it, and the
leader ends; where somebody has written over it, the leader puts it right.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import aclosing, suppress

from rendezvous.errors import (
    Deposed,
    LeaseLost,
    OutcomeUnknown,
    StoreError,
    StoreUnavailable,
)
from rendezvous.store.follow import follow
from rendezvous.store.port import Store
from rendezvous.store.renewal import PAUSE, LoopRenewal, Renewal, ThreadRenewal
from rendezvous.store.tenure import Tenure
from rendezvous.store.values import Changes, Compacted, Delete, Entry, Guard, Put, Snapshot, Write
from rendezvous.supervision import awaited, for_good, start_task

log = logging.getLogger(__name__)

LOOK_AGAIN = 5.0
"""Seconds after which who waits for the key to go looks for itself: longer than a usual lease, and
no load for the store. A watch can be deaf: where a restored store has run past the revision at
which it began, it never hears of what happened before."""
LOOK_AT_ONES_OWN = 2.0
"""Seconds after which a leader looks at its own key itself. It bounds how long there are two of
them, and is far below the time in which a new leader misses nobody."""
PAUSE_AFTER_FAILURE = 1.0
"""Seconds, after a fault of ours, and where the store does not let the key be watched."""
TRIPS = 10.0
"""A lease lasts for as many round trips to the store: to grant it and to make the key takes two;
then a thread makes a connection of its own, with TLS and a name, before it renews for the first
time, in six."""
LONGEST_LEASE = 60.0
"""Seconds: a store that is further away than this bears is none to lead by."""
GONE = "the election key is gone, or another's"


async def elect(
    store: Store,
    key: str,
    value: bytes,
    *,
    ttl: float,
    spread: float = 0.0,
    own_thread: bool = False,
) -> Leadership:
    """Wait until this process leads and `key` holds `value`.

    `ttl`, in seconds, is how long a leader that vanishes keeps others out (etcd grants 2 s and
    more). Candidates by the hundred had better not all stand at once: after a vacancy each waits
    for up to `spread` seconds. Goes on over outages of the store; raises StoreRefused.

    The key is looked at again every LOOK_AGAIN seconds, whatever a watch has told or not.
    """
    stray = 0
    while True:
        try:
            if leadership := await stand(store, key, value, ttl=ttl, own_thread=own_thread):
                return leadership
            stray = await _vacancy(store, key, stray)
            await asyncio.sleep(random.uniform(0.0, spread))
        except (StoreUnavailable, OutcomeUnknown, LeaseLost):
            await _pause()


async def stand(
    store: Store, key: str, value: bytes, *, ttl: float, own_thread: bool = False
) -> Leadership | None:
    """Try once to lead; None when another does.

    With `own_thread` the lease is renewed beside this event loop, if the store can do that. Where
    the store is far, the lease is longer than `ttl`.
    """
    asked = _now()
    if await store.get(key) is not None:
        return None
    ttl = await _long_enough(store, key, ttl, _now() - asked)
    asked = _now()
    lease = await store.grant(ttl)
    fence = f"{key}.fence"
    try:
        token = await store.txn(
            [Guard.absent(key)], [Put(key, value, lease.id), Put(fence, b"", lease.id)]
        )
    except OutcomeUnknown:
        token = _token(await store.get(key), lease.id)
    if token is None:
        await store.revoke(lease.id)
        return None
    tenure = Tenure(asked, lease.ttl)
    renewer = store.renewer() if own_thread else None
    renewal = (
        LoopRenewal(store, lease.id, tenure)
        if renewer is None
        else ThreadRenewal(renewer, lease.id, tenure)
    )
    return Leadership(store, key, value, token, lease.id, renewal)


class Leadership:
    """Being the leader, for as long as it lasts. `token` is greater than any earlier leader's."""

    def __init__(
        self, store: Store, key: str, value: bytes, token: int, lease: int, renewal: Renewal
    ) -> None:
        self.key = key
        self._value = value
        self.token = token
        self._store = store
        self._fence = f"{key}.fence"
        self._lease = lease
        self._renewal = renewal
        self._sequence = token
        self._writes = 0
        self._writing = asyncio.Lock()
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._renewing = start_task(
            self._renew(),
            name=f"leadership of {key}",
            failed=lambda error: self._lose(f"its lease can't be renewed: {error!r}"),
        )
        watching = for_good(self._watch_key, name=f"watch of {key}", pause=PAUSE_AFTER_FAILURE)
        self._watching = start_task(watching, name=f"watch of {key}", failed=awaited)

    @property
    def held(self) -> bool:
        """Whether no other can lead yet. Turns False before the store lets another one in."""
        return not self._end.done() and self._renewal.tenure.held(_now())

    async def lost(self) -> str:
        """Wait for the end of this leadership and return the reason."""
        return await asyncio.shield(self._end)

    async def write(self, writes: Sequence[Write], guards: Sequence[Guard] = ()) -> int | None:
        """Apply all writes in one fenced transaction, exactly once, trying again over outages.

        Returns the revision, or None when one of `guards` did not hold. Raises Deposed when the
        leadership has ended (of an unanswered write it is then unknown whether it was made), and
        StoreRefused.
        """
        async with self._writing:
            self._writes += 1
            mark = f"{self.token}.{self._writes}".encode()
            unanswered = False
            while self.held:
                try:
                    if revision := await self._attempt(mark, writes, guards):
                        return revision
                    fence = await self._inspect()
                    overtaken = fence.mod_revision != self._sequence
                    self._sequence = fence.mod_revision
                    if fence.value == mark:
                        return fence.mod_revision
                    if overtaken:
                        continue
                    # A guard did not hold. An unanswered attempt must not find that it does later.
                    if not unanswered or await self._attempt(b"", (), ()):
                        return None
                except StoreUnavailable:
                    await _pause()
                except OutcomeUnknown:
                    unanswered = True
                    await _pause()
                except LeaseLost as error:
                    self._lose(str(error))
        raise Deposed(self._why())

    async def resign(self) -> None:
        """Stop leading and let the next one in at once, or within the lease if that fails."""
        self._lose("resigned")
        with suppress(StoreError):
            await self._store.revoke(self._lease)

    def give_up(self, reason: str) -> None:
        """Lead no longer; who waits for the end of this leadership resigns."""
        self._lose(reason)

    async def _attempt(
        self, mark: bytes, writes: Sequence[Write], guards: Sequence[Guard]
    ) -> int | None:
        fenced = [
            Guard.created_at(self.key, self.token),
            Guard.unchanged_since(self._fence, self._sequence),
            *guards,
        ]
        revision = await self._store.txn(fenced, [*writes, Put(self._fence, mark, self._lease)])
        if revision is not None:
            self._sequence = revision
        return revision

    async def _inspect(self) -> Entry:
        """The fence as it is, if the election key is still ours; raises Deposed if not."""
        entries = {entry.key: entry for entry in (await self._store.list(self.key)).entries}
        mine, fence = entries.get(self.key), entries.get(self._fence)
        if mine is None or fence is None or mine.create_revision != self.token:
            self._lose(GONE)
            raise Deposed(self._why())
        return fence

    async def _renew(self) -> None:
        self._lose(await self._renewal.run())

    async def _watch_key(self) -> None:
        while True:
            try:
                async for told in follow(self._store, self.key, refresh=LOOK_AT_ONES_OWN):
                    await self._look(told)
            except StoreError:
                # Whether the lease can be renewed is what counts then; this may last for hours.
                await asyncio.sleep(PAUSE_AFTER_FAILURE)

    async def _look(self, told: Snapshot | Changes) -> None:
        if isinstance(told, Snapshot):
            mine = next((entry for entry in told.entries if entry.key == self.key), None)
        else:
            changes = [change for change in told.changes if change.key == self.key]
            if not changes:
                return
            mine = changes[-1].entry
        if mine is None or mine.create_revision != self.token:
            self._lose(GONE)
        elif (mine.value, mine.lease) != (self._value, self._lease):
            log.warning("somebody has written over %s: it is put right", self.key)
            await self.write([Put(self.key, self._value, self._lease)])

    def _lose(self, reason: str) -> None:
        if not self._end.done():
            self._end.set_result(reason)
        self._renewing.cancel()
        self._watching.cancel()

    def _why(self) -> str:
        reason = self._end.result() if self._end.done() else "its lease may have run out"
        return f"no longer the leader of {self.key}: {reason}"


async def _long_enough(store: Store, key: str, ttl: float, trip: float) -> float:
    """The lease for a store that has answered after `trip` seconds, connections included."""
    tries = 2
    while TRIPS * trip > ttl and tries:
        # It may have been a bad moment.
        asked = _now()
        await store.get(key)
        trip, tries = min(trip, _now() - asked), tries - 1
    if TRIPS * trip <= ttl:
        return ttl
    longer = min(TRIPS * trip, LONGEST_LEASE)
    if longer <= ttl:
        return ttl
    log.warning(
        "the store answers after %.2f s: so the lease is %.0f s, not %.0f, and a leader that "
        "vanishes keeps others out for as long",
        trip,
        longer,
        ttl,
    )
    return longer


def _token(entry: Entry | None, lease: int) -> int | None:
    return entry.create_revision if entry is not None and entry.lease == lease else None


async def _vacancy(store: Store, key: str, stray: int) -> int:
    """Return when `key` is absent, or may be.

    A key without a lease, which no leader has made, would never go. A leader that lives puts it
    right; where it is still there at the second look (`stray` is its revision at the first, and
    what is returned at the next), it is removed.
    """
    snapshot = await store.list(key)
    held = next((entry for entry in snapshot.entries if entry.key == key), None)
    if held is None:
        return 0
    if not held.lease and held.mod_revision == stray:
        log.warning("%s is not a leader's, for it has no lease: it is removed", key)
        await store.txn([Guard.unchanged_since(key, stray)], [Delete(key)])
        return 0
    await _removal(store, key, snapshot.revision + 1)
    return 0 if held.lease else held.mod_revision


async def _removal(store: Store, key: str, start: int) -> None:
    """Return when it was told that `key` is gone, or it is time to look again."""
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(LOOK_AGAIN),
            aclosing(store.watch(key, start=start)) as told,
        ):
            async for item in told:
                if isinstance(item, Compacted):
                    await _pause()
                    return
                if any(change.key == key and change.entry is None for change in item.changes):
                    return


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _pause() -> None:
    await asyncio.sleep(random.uniform(*PAUSE))
