"""What an agent does with a staged state: write it, wait for the others' parts, commit.

Imports no torch. `save_staged` blocks; `BackgroundWriter` does the same beside the agent's loop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from trainer.checkpoint.attempt import discard
from trainer.checkpoint.fate import Commit, End
from trainer.checkpoint.part import write_part as _write_part
from trainer.checkpoint.pending import Pending
from trainer.checkpoint.staging import read_description
from trainer.checkpoint.store import Store, open_store
from trainer.checkpoint.unsaved import NO_SPACE, mending
from trainer.errors import CheckpointError, GenerationOver
from trainer.supervision import ThreadPool, guarded, start_thread

JSON = Any
logger = logging.getLogger(__name__)
FIRST_POLL, LAST_POLL = 0.01, 0.5
"""Seconds between two looks for parts; they grow while nothing comes."""
PATIENCE = 600.0
"""Seconds without another rank's part, of which nobody has said that it will not come."""
LEAVING_PATIENCE = 10.0
"""The same for an agent that leaves, or as long as its own part has taken."""
REMEMBERED = 16
"""Of so many saves it is remembered which ranks have failed: where another node commits them,
nobody here hears of their end."""
TURN = 30.0
"""Seconds for which a whole version waits for an earlier one that is still on its way."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one rank's part of a save ended; `path` is the record where rank 0's agent committed it.

    `bytes` are of the whole checkpoint there, of the rank's file elsewhere; `seconds` count from
    the moment it was staged; `error` is None when all went well. `url` and `options` are of the
    checkpoint directory.
    """

    version: int
    generation: int
    rank: int
    path: str | None
    bytes: int
    seconds: float
    error: str | None = None
    url: str = ""
    options: Mapping[str, JSON] = field(default_factory=dict)


def outcome_of(staged: JSON, *, path: str | None, size: int, error: str | None = None) -> Outcome:
    """How the save of a staged state ended."""
    if error is not None:
        logger.error("version %d is not saved: %s", staged["version"], error)
    return Outcome(
        version=staged["version"],
        generation=staged["generation"],
        rank=staged["rank"],
        path=path,
        bytes=size,
        seconds=time.time() - staged["time"],
        error=error,
        url=staged["url"],
        options=staged["options"],
    )


def save_staged(
    description: Path,
    *,
    given_up: Callable[[], bool] = lambda: False,
    patience: float = PATIENCE,
    copy_of: str = "",
) -> Outcome:
    """Write one rank's staged part; at rank 0, commit once every rank's part is durable.

    `patience` is how many seconds may go by without another rank's receipt. `copy_of` names the
    node whose mirror this is: the rank's own node may be writing too, so that the copy's file has
    another name, and whichever has its receipt first counts. Never raises what a store or another
    rank did: the outcome says it.
    """
    staged = read_description(description)
    if copy_of and staged["path"] is not None:
        stem, dot, suffix = staged["path"].rpartition(".")
        staged["path"] = f"{stem}.{copy_of}{dot}{suffix}"
    path, size = None, staged["bytes"]
    try:
        store = write(description, staged)
        if staged["commit"] is not None:
            pending, pause = Pending(store, staged, description), FIRST_POLL
            while not isinstance(
                found := pending.look(patience=patience, given_up=given_up()), Commit
            ):
                if isinstance(found, End):
                    raise CheckpointError(found.reason)
                time.sleep(pause)
                pause = min(pause * 1.5, LAST_POLL)
            path, size = pending.commit()
    except (OSError, CheckpointError, GenerationOver) as failure:
        return outcome_of(staged, path=None, size=size, error=str(failure))
    return outcome_of(staged, path=path, size=size)


def write(description: Path, staged: JSON) -> Store:
    """Write one rank's part, after which its slot is free. Raises OSError, CheckpointError."""
    try:
        store = open_store(staged["url"], staged["options"])
        _write_part(store, staged)
    finally:
        description.with_suffix(".pending").unlink(missing_ok=True)
    return store


@dataclass(eq=False, slots=True)
class _Save:
    """One state that was submitted, until its outcome is there."""

    description: Path
    future: Future[Outcome] = field(default_factory=Future)
    staged: JSON = None
    """The description's content, once it was read."""
    pending: Pending | None = None
    """Once its own part is written, where it is to be committed here."""
    took: float = 0.0
    """Seconds for its own part."""
    pause: float = FIRST_POLL
    look_at: float = 0.0
    """When parts are looked for next, by the monotonic clock."""


@dataclass(frozen=True, slots=True)
class _Members:
    """The nodes of the newest generation, and those that go in order and still write their part."""

    generation: int = 0
    nodes: frozenset[str] = frozenset()
    going: frozenset[str] = frozenset()


class BackgroundWriter:
    """Writes staged states in threads of this process, and commits those of rank 0.

    Parts are written by a pool, which nothing else occupies; one thread looks after the saves that
    wait for other ranks' parts.
    """

    def __init__(
        self, report: Callable[[Outcome], None] | None = None, *, threads: int = 8
    ) -> None:
        """`report` is called from a thread, once for each state that was submitted."""
        self._report = report
        self._pool = ThreadPool(threads, name="checkpoint")
        self._changed = threading.Condition()
        """Guards all that follows; notified where a save has to be looked at."""
        self._saves: list[_Save] = []
        """Those that are not over, in the order in which they were submitted."""
        self._dead: dict[str, JSON] = {}
        """By attempt: failed saves, of which something may still come with a late part."""
        self._members = _Members()
        self._failed: dict[str, dict[int, str]] = {}
        """By attempt: this process's ranks that could not write their part."""
        self._told: dict[tuple[int, int], dict[int, str]] = {}
        """By version and generation: ranks whose part will never be there, as they have said."""
        self._leaving = False
        self._abandoned = False
        self._closed = False
        self._committer: threading.Thread | None = None

    def submit(self, description: str | Path) -> Future[Outcome]:
        """Write what this file describes; the slot is free once its mark is gone.

        Versions are committed in this order, but for one that makes the next wait too long: it
        comes too late then.
        """
        save = _Save(Path(description))
        with self._changed:
            self._saves.append(save)
        self._pool.submit(self._write, save, failed=partial(self._break, save))
        return save.future

    def members(self, generation: int, nodes: Collection[str], going: Collection[str] = ()) -> None:
        """A generation begins with these nodes: who was in an earlier one, and is not in this,
        writes no part any more, but for those `going` in order."""
        with self._changed:
            going = (self._members.going | frozenset(going)) - frozenset(nodes)
            self._members = _Members(generation, frozenset(nodes), going)
            for save in self._saves:
                self._look_for_losses(save)
            self._look_at_all()

    def part_lost(self, version: int, generation: int, *, rank: int, reason: str) -> None:
        """A rank has said itself that its part of this save will never be there."""
        with self._changed:
            self._told.setdefault((version, generation), {})[rank] = reason
            while len(self._told) > REMEMBERED:
                del self._told[next(iter(self._told))]
            for save in self._saves:
                self._look_for_losses(save)
            self._look_at_all()

    def leave(self) -> None:
        """This agent leaves: only the newest save is waited for, and not for long."""
        with self._changed:
            self._leaving = True
            self._look_at_all()

    def abandon(self) -> None:
        """Wait no longer for other ranks' parts. What is whole is committed."""
        with self._changed:
            self._abandoned = True
            self._look_at_all()

    def close(self) -> None:
        """End once all that was submitted is done."""
        with self._changed:
            futures = [save.future for save in self._saves]
        wait_for(futures)
        self._pool.close()
        with self._changed:
            self._closed = True
            self._changed.notify()
            committer = self._committer
        if committer is not None:
            committer.join()

    # One rank's part: in a thread of the pool

    def _write(self, save: _Save) -> None:
        began = time.monotonic()
        try:
            store = self._write_from(save)
        except (OSError, CheckpointError, GenerationOver) as error:
            self._fail(save, str(error))
            return
        save.took = time.monotonic() - began
        if save.staged["commit"] is None:
            self._end(save, size=save.staged["bytes"])
            return
        pending = Pending(store, save.staged, save.description)
        with self._changed:
            for rank, reason in self._failed.get(save.staged["attempt"], {}).items():
                pending.fails(rank, reason)
            save.pending = pending
            self._look_for_losses(save)
            if self._committer is None:
                self._committer = start_thread(
                    self._look_after_saves, name="commits", failed=self._break_all
                )
            self._changed.notify()

    def _write_from(self, save: _Save) -> Store:
        """Whatever comes of it, its slot is free afterwards."""
        try:
            save.staged = read_description(save.description)
            if save.staged["commit"] is not None:
                self._sweep(save.staged["version"])
            return write(save.description, save.staged)
        finally:
            save.description.with_suffix(".pending").unlink(missing_ok=True)

    def _fail(self, save: _Save, reason: str) -> None:
        """A part can't be written: who commits the save, if that is here, need not wait for it."""
        staged = save.staged
        if staged is not None:
            with self._changed:
                failed = self._failed.setdefault(staged["attempt"], {})
                failed[staged["rank"]] = reason
                while len(self._failed) > REMEMBERED:
                    del self._failed[next(iter(self._failed))]
                for other in self._saves:
                    if other.pending is not None and other.staged["attempt"] == staged["attempt"]:
                        other.pending.fails(staged["rank"], reason)
                        other.look_at = 0.0
                self._changed.notify()
            if staged["commit"] is not None:
                self._discard(save)
        self._end(save, error=reason)

    # The saves that wait: in the thread that commits

    def _look_after_saves(self) -> None:
        while (save := self._next()) is not None:
            guarded(self._look, name="a save", failed=partial(self._break, save))(save)

    def _next(self) -> _Save | None:
        """The save to look at, when it is time; None when there will be none any more."""
        with self._changed:
            while True:
                waiting = [save for save in self._saves if save.pending is not None]
                if self._closed and not waiting:
                    return None
                due = min(waiting, key=lambda save: save.look_at, default=None)
                left = None if due is None else due.look_at - time.monotonic()
                if due is not None and left is not None and left <= 0:
                    return due
                self._changed.wait(left)

    def _look(self, save: _Save) -> None:
        assert save.pending is not None
        with self._changed:
            at = self._saves.index(save)
            earlier = any(_commits(other) for other in self._saves[:at])
            later = any(_commits(other) for other in self._saves[at + 1 :])
            leaving, abandoned = self._leaving, self._abandoned
        try:
            found = save.pending.look(
                patience=max(LEAVING_PATIENCE, save.took) if leaving else PATIENCE,
                turn=TURN,
                earlier=earlier,
                overtaken=leaving and later,
                given_up=abandoned,
            )
            match found:
                case Commit():
                    path, size = save.pending.commit()
                    self._end(save, path=path, size=size)
                case End(reason, for_good):
                    if for_good:
                        self._discard(save)
                    self._end(save, error=reason)
                case _:
                    save.look_at = time.monotonic() + save.pause
                    save.pause = min(save.pause * 1.5, LAST_POLL)
        except (CheckpointError, GenerationOver) as error:
            if isinstance(error, CheckpointError):
                self._discard(save)
            self._end(save, error=str(error))
        except OSError as error:
            # Whole but for its record: the next generation commits it, unless it is in the way.
            if error.errno in NO_SPACE:
                self._discard(save)
            self._end(save, error=f"{error}{mending(error)}")

    def _look_for_losses(self, save: _Save) -> None:
        members, staged = self._members, save.staged
        if save.pending is None:
            return
        for rank, reason in self._told.get((staged["version"], staged["generation"]), {}).items():
            save.pending.fails(rank, reason)
        if staged["generation"] >= members.generation:
            return
        for node, ranks in save.staged["commit"].get("nodes", {}).items():
            if node not in members.nodes | members.going:
                for rank in ranks:
                    save.pending.fails(rank, f"node {node} was lost with the part of rank {rank}")

    def _look_at_all(self) -> None:
        for save in self._saves:
            save.look_at, save.pause = 0.0, FIRST_POLL
        self._changed.notify()

    # The end of a save: in either

    def _end(
        self, save: _Save, *, path: str | None = None, size: int = 0, error: str | None = None
    ) -> None:
        with self._changed:
            if save not in self._saves:
                return
            self._saves.remove(save)
            if save.staged is not None and save.staged["commit"] is not None:
                self._failed.pop(save.staged["attempt"], None)
            late = save.staged is not None and save.staged["attempt"] in self._dead
            for other in self._saves if path is not None else ():
                if other.pending is not None:
                    other.pending.overtaken_by(save.staged["version"])
            self._look_at_all()
        if late:
            _remove(save.staged)
        outcome = (
            Outcome(-1, 0, -1, None, 0, 0.0, error)
            if save.staged is None
            else outcome_of(save.staged, path=path, size=size, error=error)
        )
        try:
            if self._report is not None:
                self._report(outcome)
        finally:
            save.future.set_result(outcome)

    def _break(self, save: _Save, error: Exception) -> None:
        """What nobody has thought of has happened to it."""
        self._fail(save, f"{type(error).__name__}: {error}")

    def _break_all(self, error: Exception) -> None:
        with self._changed:
            saves = list(self._saves)
        for save in saves:
            self._break(save, error)

    def _discard(self, save: _Save) -> None:
        """Remove what is there of a save that will never be whole.

        Not where this agent leaves: others that leave with it may write what is missing from their
        memory.
        """
        with self._changed:
            if self._leaving or self._abandoned:
                return
            self._dead[save.staged["attempt"]] = save.staged
        _remove(save.staged)

    def _sweep(self, version: int) -> None:
        """Before a later save: what came late of those that have failed goes too, and for good."""
        with self._changed:
            dead = [staged for staged in self._dead.values() if staged["version"] < version]
            for staged in dead:
                del self._dead[staged["attempt"]]
        for staged in dead:
            _remove(staged)


def _remove(staged: JSON) -> None:
    try:
        discard(open_store(staged["url"], staged["options"]), staged["attempt"])
    except CheckpointError as error:
        logger.warning("a failed save's files are left: %s", error)


def _commits(save: _Save) -> bool:
    """Whether it will be committed here, as far as is known."""
    return save.staged is None or save.staged["commit"] is not None
