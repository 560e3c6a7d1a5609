"""etcd's v3 API, as much of it as the rendezvous uses: a Store on a real server."""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence

from rendezvous.errors import LeaseLost, RevisionCompacted, StoreRefused
from rendezvous.etcd import methods, translate
from rendezvous.etcd.access import Access
from rendezvous.etcd.cluster import MARK, decode_mark, encode_mark
from rendezvous.etcd.connection import Connection
from rendezvous.etcd.deadlines import Deadlines
from rendezvous.etcd.renewer import EtcdRenewer
from rendezvous.etcd.watch import watch
from rendezvous.store.values import (
    Changes,
    Compacted,
    Entry,
    Guard,
    Lease,
    Put,
    Snapshot,
    Write,
)
from rendezvous.wire import etcd_pb2 as wire

PAGE = 1000


class EtcdClient:
    """A Store over the members at `endpoints` (host:port), etcd 3.4 or later.

    Make it in a running event loop. Raises ConfigurationError when there is no endpoint.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        access: Access | None = None,
        deadlines: Deadlines | None = None,
        read_access: Callable[[], Access] | None = None,
        learn: bool = True,
    ) -> None:
        """`read_access` reads anew what `access` was read from: files change. It may raise
        ConfigurationError. Unless `learn` is false, other members that the cluster names are used
        as well."""
        self._connection = Connection(
            endpoints, access=access, deadlines=deadlines, read_access=read_access, learn=learn
        )

    @property
    def endpoint(self) -> str:
        """The member in use."""
        return self._connection.current.address

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All that are used, those given and those learnt, the one in use first."""
        return self._connection.addresses()

    async def get(self, key: str) -> Entry | None:
        answer = await self._connection.call(methods.RANGE, wire.RangeRequest(key=key.encode()))
        return translate.entry(answer.kvs[0]) if answer.kvs else None

    async def list(self, prefix: str, *, page: int = PAGE) -> Snapshot:
        """Reads `page` keys at a time, all as of the revision of the first."""
        while True:
            try:
                return await self._list(prefix, page)
            except RevisionCompacted:
                continue

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        request = translate.put(Put(key, value, lease))
        return (await self._connection.call(methods.PUT, request)).header.revision

    async def delete(self, key: str) -> bool:
        request = wire.DeleteRangeRequest(key=key.encode())
        return (await self._connection.call(methods.DELETE, request)).deleted > 0

    async def txn(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        request = wire.TxnRequest(
            compare=[translate.compare(guard) for guard in guards],
            success=[translate.operation(write) for write in writes],
        )
        answer = await self._connection.call(methods.TXN, request)
        return answer.header.revision if answer.succeeded else None

    def watch(self, prefix: str, *, start: int) -> AsyncGenerator[Changes | Compacted, None]:
        return watch(self._connection, prefix, start=start)

    async def grant(self, ttl: float) -> Lease:
        """etcd counts whole seconds, and grants no less than one and a half election timeouts."""
        # With an id of our own, asking twice is as good as once.
        lease = secrets.randbelow(2**63 - 1) + 1
        request = wire.LeaseGrantRequest(TTL=math.ceil(ttl), ID=lease)
        try:
            answer = await self._connection.call(methods.GRANT, request)
        except StoreRefused as error:
            if "lease already exists" not in str(error):
                raise
            return Lease(id=lease, ttl=await self.keep_alive(lease))
        return Lease(id=answer.ID, ttl=answer.TTL)

    async def keep_alive(self, lease: int) -> float:
        request = wire.LeaseKeepAliveRequest(ID=lease)
        answer = await self._connection.call(methods.KEEP_ALIVE, request)
        if answer.TTL <= 0:
            raise LeaseLost(f"lease {lease:x} has run out or was never granted")
        return answer.TTL

    def renewer(self) -> EtcdRenewer:
        return self._connection.renewer()

    async def time_to_live(self, lease: int) -> float:
        """Seconds left, whole ones. Raises LeaseLost."""
        request = wire.LeaseTimeToLiveRequest(ID=lease)
        answer = await self._connection.call(methods.TIME_TO_LIVE, request)
        if answer.TTL < 0:
            raise LeaseLost(f"lease {lease:x} has run out or was never granted")
        return answer.TTL

    async def revoke(self, lease: int) -> None:
        try:
            await self._connection.call(methods.REVOKE, wire.LeaseRevokeRequest(ID=lease))
        except LeaseLost:
            return

    async def compact(self, revision: int) -> None:
        """Have etcd forget the history before `revision`."""
        request = wire.CompactionRequest(revision=revision, physical=True)
        await self._connection.call(methods.COMPACT, request)

    async def status(self) -> wire.StatusResponse:
        """Of the member in use: version, size, leader."""
        return await self._connection.call(methods.STATUS, wire.StatusRequest())

    @property
    def trouble(self) -> str:
        return self._connection.trouble

    async def claim(self) -> None:
        """See Store.claim."""
        entry, home = await self.get(MARK), self._connection.introductions.cluster.home
        if home and (entry is None or decode_mark(entry.value) != home):
            await self.put(MARK, encode_mark(home))

    async def close(self) -> None:
        await self._connection.close()

    async def _list(self, prefix: str, page: int) -> Snapshot:
        key, end = translate.range_of(prefix)
        entries: list[Entry] = []
        revision = 0
        while True:
            request = wire.RangeRequest(key=key, range_end=end, limit=page, revision=revision)
            answer = await self._connection.call(methods.RANGE, request)
            revision = revision or answer.header.revision
            entries += map(translate.entry, answer.kvs)
            if not answer.more:
                return Snapshot(revision=revision, entries=tuple(entries))
            key = answer.kvs[-1].key + b"\0"
