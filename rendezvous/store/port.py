"""The whole of what the rendezvous asks of a key-value store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from rendezvous.store.values import Changes, Compacted, Entry, Guard, Lease, Snapshot, Write


class Renewer(Protocol):
    """Renews leases with blocking calls, on a connection of its own. For one thread."""

    def renew(self, lease: int, within: float) -> float:
        """Seconds that the lease has from now on. Raises StoreError within `within` seconds;
        LeaseLost when the lease is gone."""
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """A linearizable map with one revision for all keys, transactions, leases and watches.

    Every method ends within the store's deadline. Reads raise StoreUnavailable when nobody
    answers. Writes raise StoreUnavailable when surely nothing was changed, OutcomeUnknown when
    that can't be told. All raise StoreRefused when the store says no.
    """

    async def get(self, key: str) -> Entry | None:
        """The key as it is now, or None."""
        ...

    async def list(self, prefix: str) -> Snapshot:
        """Every key that begins with `prefix`, as of one revision."""
        ...

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Set a key and return the revision. Raises LeaseLost when the lease is gone."""
        ...

    async def delete(self, key: str) -> bool:
        """Remove a key; whether it was there."""
        ...

    async def txn(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        """Apply all writes at one revision if every guard holds.

        Returns the revision, or None when a guard did not hold and nothing was changed. Raises
        LeaseLost when a write names a lease that is gone.
        """
        ...

    def watch(self, prefix: str, *, start: int) -> AsyncGenerator[Changes | Compacted, None]:
        """Tell every change under `prefix` from revision `start` on: in order, each once.

        Goes on by itself over lost connections, however long. Ends after Compacted only, which
        comes also where the store is not yet at the revision before `start`.
        """
        ...

    async def grant(self, ttl: float) -> Lease:
        """A lease of at least `ttl` seconds."""
        ...

    async def keep_alive(self, lease: int) -> float:
        """Renew a lease and return how many seconds it has from now on. Raises LeaseLost."""
        ...

    def renewer(self) -> Renewer | None:
        """What renews leases from another thread; None where they need this event loop."""
        ...

    async def revoke(self, lease: int) -> None:
        """End a lease and remove its keys; nothing happens when it is gone already."""
        ...

    @property
    def trouble(self) -> str:
        """What is the matter with it now, for people; empty when nothing is."""
        ...

    async def claim(self) -> None:
        """Write down in the store which one it is, so that another is not taken for it. For who
        leads."""
        ...

    async def close(self) -> None:
        """Let go of connections and timers; watches end."""
        ...
