"""The store in this process's memory: for one service, or none, and for tests without a server.

It keeps etcd's rules: one revision for all keys, beginning at 1; a transaction's writes share a
revision; a deletion starts `create_revision` and `version` anew.
"""

from __future__ import annotations

import asyncio
import operator
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rendezvous.errors import LeaseLost, StoreRefused, StoreUnavailable
from rendezvous.store.values import (
    Change,
    Changes,
    Compacted,
    Delete,
    Entry,
    Guard,
    Lease,
    Put,
    Relation,
    Snapshot,
    Write,
)
from rendezvous.supervision import call_later, logged

HISTORY = 10_000


@dataclass(slots=True)
class _Held:
    ttl: float
    timer: asyncio.TimerHandle
    keys: set[str] = field(default_factory=set)


class MemoryStore:
    """A Store. Leases follow the running loop's clock, so a loop with its own time rules them.

    `history` is how many revisions a watch can go back.
    """

    def __init__(self, *, history: int = HISTORY) -> None:
        self._history = history
        self._revision = 1
        self._compacted = 0
        self._entries: dict[str, Entry] = {}
        self._log: list[Changes] = []
        self._leases: dict[int, _Held] = {}
        self._last_lease = 0
        self._grown = asyncio.Event()
        self._closed = False

    async def get(self, key: str) -> Entry | None:
        self._require_open()
        return self._entries.get(key)

    async def list(self, prefix: str) -> Snapshot:
        self._require_open()
        keys = sorted(key for key in self._entries if key.startswith(prefix))
        entries = tuple(self._entries[key] for key in keys)
        return Snapshot(revision=self._revision, entries=entries)

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        return self._apply([Put(key, value, lease)])

    async def delete(self, key: str) -> bool:
        before = self._revision
        return self._apply([Delete(key)]) > before

    async def txn(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        self._require_open()
        if not all(_holds(guard, self._entries.get(guard.key)) for guard in guards):
            return None
        return self._apply(writes)

    async def watch(self, prefix: str, *, start: int) -> AsyncGenerator[Changes | Compacted, None]:
        if start > self._revision + 1:
            yield Compacted(self._revision)
            return
        while not self._closed:
            if start < self._compacted:
                yield Compacted(self._compacted)
                return
            grown = self._grown
            fresh = self._log[bisect_left(self._log, start, key=lambda told: told.revision) :]
            for told in fresh:
                start = told.revision + 1
                mine = tuple(c for c in told.changes if c.key.startswith(prefix))
                if mine:
                    yield Changes(revision=told.revision, changes=mine)
            if not fresh:
                await grown.wait()

    async def grant(self, ttl: float) -> Lease:
        self._require_open()
        self._last_lease += 1
        lease = self._last_lease
        self._leases[lease] = _Held(ttl, self._timer(lease, ttl))
        return Lease(id=lease, ttl=ttl)

    async def keep_alive(self, lease: int) -> float:
        self._require_open()
        held = self._held(lease)
        held.timer.cancel()
        held.timer = self._timer(lease, held.ttl)
        return held.ttl

    def renewer(self) -> None:
        """Its leases end on the event loop, and can't end while that stands still."""

    async def revoke(self, lease: int) -> None:
        self._require_open()
        self._end_lease(lease)

    async def compact(self, revision: int) -> None:
        """Forget the history before `revision`; keys stay as they are."""
        if not self._compacted < revision <= self._revision:
            raise StoreRefused(f"can't compact to {revision}: not between what is kept and now")
        self._compacted = revision
        del self._log[: bisect_left(self._log, revision, key=lambda told: told.revision)]

    @property
    def trouble(self) -> str:
        return ""

    async def claim(self) -> None:
        """There is no other."""

    async def close(self) -> None:
        self._closed = True
        for held in self._leases.values():
            held.timer.cancel()
        self._grown.set()

    def _apply(self, writes: Sequence[Write]) -> int:
        self._require_open()
        _refuse_overlap(writes)
        for write in writes:
            if isinstance(write, Put) and write.lease:
                self._held(write.lease)
        revision = self._revision + 1
        changes: list[Change] = []
        for write in writes:
            if isinstance(write, Put):
                changes.append(self._set(write, revision))
            else:
                changes.extend(self._remove(write, revision))
        if changes:
            self._revision = revision
            self._log.append(Changes(revision=revision, changes=tuple(changes)))
            if len(self._log) > 2 * self._history:
                self._compacted = self._log[-self._history].revision
                del self._log[: -self._history]
            self._grown.set()
            self._grown = asyncio.Event()
        return self._revision

    def _set(self, put: Put, revision: int) -> Change:
        old = self._entries.get(put.key)
        self._detach(old)
        if put.lease:
            self._leases[put.lease].keys.add(put.key)
        entry = Entry(
            key=put.key,
            value=put.value,
            create_revision=old.create_revision if old else revision,
            mod_revision=revision,
            version=old.version + 1 if old else 1,
            lease=put.lease,
        )
        self._entries[put.key] = entry
        return Change(key=put.key, entry=entry, revision=revision)

    def _remove(self, delete: Delete, revision: int) -> Iterator[Change]:
        if delete.prefix:
            keys = sorted(key for key in self._entries if key.startswith(delete.key))
        else:
            keys = [delete.key] if delete.key in self._entries else []
        for key in keys:
            self._detach(self._entries.pop(key))
            yield Change(key=key, entry=None, revision=revision)

    def _detach(self, entry: Entry | None) -> None:
        if entry is not None and entry.lease in self._leases:
            self._leases[entry.lease].keys.discard(entry.key)

    def _timer(self, lease: int, ttl: float) -> asyncio.TimerHandle:
        return call_later(ttl, self._end_lease, lease, failed=logged)

    def _end_lease(self, lease: int) -> None:
        with suppress(LeaseLost):
            held = self._held(lease)
            held.timer.cancel()
            self._apply([Delete(key) for key in sorted(held.keys)])
            del self._leases[lease]

    def _held(self, lease: int) -> _Held:
        if lease not in self._leases:
            raise LeaseLost(f"lease {lease} has run out or was never granted")
        return self._leases[lease]

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")


_RELATIONS: dict[Relation, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


def _holds(guard: Guard, entry: Entry | None) -> bool:
    if entry is None and guard.field == "value":
        return False
    actual = 0 if entry is None else getattr(entry, guard.field)
    return _RELATIONS[guard.relation](actual, guard.operand)


def _refuse_overlap(writes: Sequence[Write]) -> None:
    put = [write.key for write in writes if isinstance(write, Put)]
    deleted = [write for write in writes if isinstance(write, Delete)]
    twice = len(set(put)) != len(put) or any(
        key == write.key or (write.prefix and key.startswith(write.key))
        for key in put
        for write in deleted
    )
    if twice:
        raise StoreRefused("a transaction can't write one key twice")
