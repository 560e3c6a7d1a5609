"""The key-value store under the rendezvous: a port, its two implementations, and an election."""

from rendezvous.store.election import Leadership, elect, stand
from rendezvous.store.follow import follow
from rendezvous.store.memory import MemoryStore
from rendezvous.store.port import Store
from rendezvous.store.values import (
    Change,
    Changes,
    Compacted,
    Delete,
    Entry,
    Guard,
    Lease,
    Put,
    Snapshot,
    Write,
)

__all__ = [
    "Change",
    "Changes",
    "Compacted",
    "Delete",
    "Entry",
    "Guard",
    "Leadership",
    "Lease",
    "MemoryStore",
    "Put",
    "Snapshot",
    "Store",
    "Write",
    "elect",
    "follow",
    "stand",
]
