"""Room for a save on a disk that is nearly full: what is of no use any more goes before it.

That is what can never be committed, and the oldest checkpoint where it would go as soon as this
one is there. The last whole one stays, whatever that costs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from trainer.checkpoint import log
from trainer.checkpoint.attempt import read_header
from trainer.checkpoint.keep import Keep, Kept, being_read, removable, whole_records
from trainer.checkpoint.manifest import Summary
from trainer.checkpoint.store import Store
from trainer.checkpoint.unsaved import NO_SPACE
from trainer.errors import CheckpointDamaged
from trainer.names import ATTEMPT

T = TypeVar("T")
logger = logging.getLogger(__name__)

OVERHEAD_BYTES = 1 << 20
OVERHEAD_SHARE = 64
"""Beside its data a checkpoint has headers, receipts and its record: so much and a 64th at most."""
QUIET_SECONDS = 60.0
"""An attempt of an earlier generation that has not changed for so long is written by nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """A save that is to be written: its `bytes` by all ranks, and what stays once it is there."""

    version: int
    generation: int
    execution: str
    attempt: str
    bytes: int
    keep: Keep


def expendable(
    found: Sequence[Kept],
    keep: Keep,
    coming: int,
    read: frozenset[str] = frozenset(),
    whole: Callable[[int], bool] = lambda number: True,
) -> list[Kept]:
    """Which checkpoints (newest first) may go before version `coming` is written, oldest first.

    It is those that would go after it; but the newest whole one never does. Pure, but for what
    `whole` does; see `removable`.
    """
    if not found or coming <= found[0].version:
        return []
    ahead = Kept(found[0].number + 1, coming, "")
    gone = removable(
        [ahead, *found], keep, read, lambda number: number == ahead.number or whole(number)
    )
    last = next((item for item in found if whole(item.number)), None) if gone else None
    return [item for item in reversed(gone) if item is not last]


def with_room(store: Store, coming: Coming, write: Callable[[], T], *, now: float) -> T:
    """What `write` returns; where the disk has no room for it, something goes and it tries again.

    Raises what `write` raises where nothing may go.
    """
    make_room(store, coming, now=now)
    while True:
        try:
            return write()
        except OSError as error:
            if error.errno not in NO_SPACE or not make_room(store, coming, now=now, refused=True):
                raise


def make_room(store: Store, coming: Coming, *, now: float, refused: bool = False) -> bool:
    """Remove what may go until there is room for the save; whether anything has gone.

    `refused`: it could not be written. Then something goes also where there seems to be room, as a
    quota shows itself by its refusal alone.
    """
    gone = False
    try:
        if not refused and _has_room(store, coming):
            return False
        for attempt in _removed(store, coming, now):
            logger.warning("%s goes to make room for version %d", attempt, coming.version)
            gone = True
            if _has_room(store, coming):
                break
    except OSError as error:
        logger.warning("no room can be made in %s: %s", store.url, error)
    return gone


def _has_room(store: Store, coming: Coming) -> bool:
    free = store.free()
    needed = coming.bytes + coming.bytes // OVERHEAD_SHARE + OVERHEAD_BYTES
    return free is None or free >= needed or free >= needed - _written(store, coming.attempt)


def _written(store: Store, attempt: str) -> int:
    """What other ranks have of it already."""
    directory, size = log.attempt_path(attempt), 0
    for name in store.names(directory):
        with contextlib.suppress(FileNotFoundError):
            size += store.size(f"{directory}/{name}")
    return size


def _removed(store: Store, coming: Coming, now: float) -> Iterator[str]:
    """Remove one after the other; the name of each as it is gone."""
    found = list(log.summaries(store))
    sound = [(number, summary) for number, summary in found if isinstance(summary, Summary)]
    read = frozenset(being_read(store, now))
    whole = whole_records(store)
    known = {summary.attempt for _, summary in sound} | read | {coming.attempt}
    newest = next((s.version for _, s in sound if s.execution == coming.execution), -1)
    dead = [
        attempt
        for attempt in store.names(log.DATA)
        if ATTEMPT.fits(attempt)
        and attempt not in known
        and _is_dead(store, attempt, coming, newest, now)
    ]
    # An altered record may be of any attempt.
    if dead and len(sound) == len(found) and all(whole(number) for number, _ in sound):
        for attempt in dead:
            store.remove_tree(log.attempt_path(attempt))
            yield attempt
    kept = [Kept(number, summary.version, summary.attempt) for number, summary in sound]
    for item in expendable(kept, coming.keep, coming.version, read, whole):
        store.remove(log.record_path(item.number))
        if sum(other.attempt == item.attempt for other in kept) == 1:
            store.remove_tree(log.attempt_path(item.attempt))
        yield item.attempt


def _is_dead(store: Store, attempt: str, coming: Coming, newest: int, now: float) -> bool:
    """Whether nobody will ever commit it; `newest` is the last version that this run has."""
    try:
        blank, _ = read_header(store, attempt)
        if blank.execution == coming.execution:
            if blank.version <= newest:
                return True
            if blank.generation >= coming.generation:
                return False
    except (FileNotFoundError, NotADirectoryError, CheckpointDamaged):
        pass  # what it was to be, nobody can say
    try:
        return store.age(log.attempt_path(attempt), now) > QUIET_SECONDS
    except (FileNotFoundError, NotADirectoryError):
        return False
