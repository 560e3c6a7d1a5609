"""Which checkpoints stay, and the removal of those that don't.

A checkpoint's record goes first, so that it is never seen without its data. The newest is never
removed, nor one that is being read. What a record says is taken for an order to remove something
only where the record is as it was written: one that has been altered neither goes nor counts among
those that stay, and beside it no directory passes for a leftover.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trainer.checkpoint import log
from trainer.checkpoint.store import Store
from trainer.errors import CheckpointDamaged
from trainer.names import ATTEMPT, READER, named

logger = logging.getLogger(__name__)
READERS = "readers"
LEASE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How many of the newest stay (0: all), and every how many steps one stays for good.

    `leftovers` is after how many seconds without a change a dead attempt's files are removed.
    """

    keep: int = 0
    keep_every: int = 0
    leftovers: float = 3600.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A committed checkpoint: its record's number, its version, its attempt."""

    number: int
    version: int
    attempt: str


def removable(
    found: Sequence[Kept],
    keep: Keep,
    read: frozenset[str] = frozenset(),
    whole: Callable[[int], bool] = lambda number: True,
) -> list[Kept]:
    """Which checkpoints (newest first) go. Pure, but for what `whole` does.

    `read` names attempts that are being read; `whole` says of a record's number whether it is as
    it was written, and is asked only where the answer counts.
    """
    if keep.keep == 0:
        return []
    kept, gone = 0, []
    for item in found:
        if kept < keep.keep:
            kept += whole(item.number)
        elif (
            item.attempt not in read
            and not (keep.keep_every > 0 and item.version % keep.keep_every == 0)
            and whole(item.number)
        ):
            gone.append(item)
    return gone


def clean(store: Store, keep: Keep, *, now: float) -> list[str]:
    """Remove what need not stay; returns the removed attempts."""
    found, sound = [], True
    for number, summary in log.summaries(store):
        if isinstance(summary, CheckpointDamaged):
            sound = False
        else:
            found.append(Kept(number, summary.version, summary.attempt))
    read = frozenset(being_read(store, now))
    whole = whole_records(store)
    gone = removable(found, keep, read, whole)
    for item in reversed(gone):
        store.remove(log.record_path(item.number))
        if not any(other.attempt == item.attempt for other in found if other not in gone):
            store.remove_tree(log.attempt_path(item.attempt))
    removed = [item.attempt for item in gone]
    known = {item.attempt for item in found} | read
    dead = _leftovers(store, known, keep, now) if sound else []
    if dead and all(whole(item.number) for item in found if item not in gone):
        for attempt in dead:
            store.remove_tree(log.attempt_path(attempt))
        removed += dead
    _clean_openings(store)
    return removed


def whole_records(store: Store) -> Callable[[int], bool]:
    """Says of a record's number whether it is as it was written; each is read once."""
    return functools.cache(lambda number: _whole(store, number))


def _whole(store: Store, number: int) -> bool:
    if log.is_whole(store, number):
        return True
    logger.warning(
        "%s in %s is altered or cut short: nothing is removed for it",
        log.record_path(number),
        store.url,
    )
    return False


def _leftovers(store: Store, known: set[str], keep: Keep, now: float) -> list[str]:
    """Attempts that nobody has committed, and that have not changed for long enough."""
    found = []
    for name in store.names(log.DATA):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if (
                ATTEMPT.fits(name)
                and name not in known
                and store.age(log.attempt_path(name), now) > keep.leftovers
            ):
                found.append(name)
    return found


def _clean_openings(store: Store) -> None:
    """The newest record keeps its place: numbers are never used again."""
    committed = {number for number, _ in log.summaries(store)}
    for number in log.record_numbers(store)[:-1]:
        if number not in committed:
            store.remove(log.record_path(number))


def being_read(store: Store, now: float) -> Iterator[str]:
    """Attempts that some reader has on loan."""
    for name in filter(READER.fits, store.names(READERS)):
        attempt, _, _ = name.rpartition(".")
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if now - float(json.loads(store.read(f"{READERS}/{name}"))["time"]) < LEASE_SECONDS:
                yield attempt
            else:
                store.remove(f"{READERS}/{name}")


@contextlib.contextmanager
def reading(store: Store, attempt: str, *, now: float) -> Iterator[None]:
    """While inside, no one removes the attempt. Where nothing can be written, no one is told."""
    path = f"{READERS}/{named(READER, f'{attempt}.{secrets.token_hex(4)}')}"
    with contextlib.suppress(OSError):
        store.write(path, [json.dumps({"time": now}).encode()], durable=False)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            store.remove(path)
