"""What the store holds, what one may ask of it, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key as it stood at some revision.

    `create_revision` is that of the write which made the key, `mod_revision` that of the last
    one, `version` counts the writes in between from 1. `lease` is 0 where the key has none.
    """

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All keys under a prefix, sorted, as of one revision; a watch goes on at `revision + 1`."""

    revision: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Put:
    """Set `key` to `value`; with a lease, the key goes when the lease does."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove `key`; with `prefix`, every key that begins with it."""

    key: str
    prefix: bool = False


Write: TypeAlias = Put | Delete

Field: TypeAlias = Literal["create_revision", "mod_revision", "version", "value"]
Relation: TypeAlias = Literal["==", "!=", "<", ">"]


@dataclass(frozen=True, slots=True)
class Guard:
    """One condition of a transaction: `field` of `key` stands in `relation` to `operand`.

    Of an absent key, the three numbers are 0, and no comparison of its value holds.
    """

    key: str
    field: Field
    operand: int | bytes
    relation: Relation = "=="

    @classmethod
    def absent(cls, key: str) -> Guard:
        return cls(key, "create_revision", 0)

    @classmethod
    def present(cls, key: str) -> Guard:
        return cls(key, "create_revision", 0, ">")

    @classmethod
    def created_at(cls, key: str, revision: int) -> Guard:
        return cls(key, "create_revision", revision)

    @classmethod
    def unchanged_since(cls, key: str, revision: int) -> Guard:
        """The key's last write is the one of `revision`; 0 means that it is absent."""
        return cls(key, "mod_revision", revision)

    @classmethod
    def holds(cls, key: str, value: bytes) -> Guard:
        return cls(key, "value", value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One key set (`entry` is what it is now) or removed (`entry` is None) at `revision`."""

    key: str
    entry: Entry | None
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What happened under a prefix up to `revision`, in order, whole revisions only."""

    revision: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Compacted:
    """The watch can't tell what came in between, and ends: list again, then watch.

    It fell behind what the store remembers, which begins with `revision`; or the store has gone
    back in time, to `revision`, before what the watch has told already.
    """

    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What the store granted: `ttl` seconds, which may be more than was asked for."""

    id: int
    ttl: float
