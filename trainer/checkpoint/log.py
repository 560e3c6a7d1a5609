"""The log of a checkpoint directory: what was committed, in order, and who may still commit.

`log/00000001.json`, `log/00000002.json`, … each appear in one step and never onto another. A
generation opens the log by adding a record, and commits by adding the one after the newest it
knows. Once a later generation has opened the log, that place is taken: a generation that is over
can't commit, whatever it believes, on a file system as on an object store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from trainer.checkpoint.manifest import (
    FORMAT,
    FORMAT_VERSION,
    Manifest,
    Summary,
    checked,
    closed,
    count,
    decode,
    decode_summary,
    encode,
    is_sealed,
    json_object,
)
from trainer.checkpoint.store import Store
from trainer.errors import CheckpointDamaged, CheckpointError, GenerationOver
from trainer.names import ATTEMPT, RECORD, named

LOG = "log"
DATA = "data"
FIRST_READ_BYTES = 64 << 10
RECENT = 8


def record_path(number: int) -> str:
    """Where the record of this number lies."""
    return f"{LOG}/{number:08d}.json"


def attempt_path(attempt: str) -> str:
    """Where an attempt's data files lie. Raises ValueError for what is no attempt's name."""
    return f"{DATA}/{named(ATTEMPT, attempt)}"


def record_numbers(store: Store) -> list[int]:
    """The numbers of all records, oldest first."""
    return sorted(int(name.removesuffix(".json")) for name in store.names(LOG) if RECORD.fits(name))


def first_line(store: Store, number: int) -> bytes:
    """A record's first line, without reading the rest of a long one."""
    path, length = record_path(number), FIRST_READ_BYTES
    while True:
        data = store.read(path, 0, length)
        line, newline, _ = data.partition(b"\n")
        if newline or len(data) < length:
            return line
        length *= 8


def summaries(store: Store) -> Iterator[tuple[int, Summary | CheckpointDamaged]]:
    """Committed checkpoints, newest first; an unreadable record comes as its error."""
    for number in reversed(record_numbers(store)):
        try:
            summary = decode_summary(first_line(store, number), record_path(number))
        except FileNotFoundError:
            continue
        except CheckpointDamaged as error:
            yield number, error
            continue
        if summary is not None:
            yield number, summary


def newest_version(store: Store) -> int:
    """The version of the newest committed checkpoint; -1 where there is none."""
    return next((s.version for _, s in summaries(store) if isinstance(s, Summary)), -1)


def record_of(store: Store, attempt: str) -> str | None:
    """The record that has committed an attempt, if it is one of the last few."""
    for number, summary in islice(summaries(store), RECENT):
        if isinstance(summary, Summary) and summary.attempt == attempt:
            return record_path(number)
    return None


def read_manifest(store: Store, number: int) -> Manifest:
    """Raises CheckpointDamaged, or FileNotFoundError when it has been removed."""
    path = record_path(number)
    return decode(store.read(path), path)


def is_whole(store: Store, number: int) -> bool:
    """Whether a record is as it was written, by its checksum; False when it has been removed."""
    try:
        return is_sealed(store.read(record_path(number)))
    except FileNotFoundError:
        return False


class Writer:
    """One generation's right to commit to a directory. Used by one process, its rank 0's."""

    def __init__(self, store: Store, *, generation: int, execution: str, time: float) -> None:
        """Open the log. Raises GenerationOver when a later generation of this execution has it."""
        self._store = store
        self._generation = generation
        while True:
            numbers = record_numbers(store)
            holder = self._newest_opening(numbers, execution)
            if holder > generation:
                raise GenerationOver(generation, f"generation {holder} has opened {store.url}")
            opened = (numbers[-1] if numbers else 0) + 1
            record = {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "kind": "open",
                "generation": generation,
                "execution": execution,
                "time": time,
            }
            if store.create(record_path(opened), json.dumps(record).encode() + b"\n"):
                self.opened = opened
                return

    @classmethod
    def attached(cls, store: Store, *, generation: int, opened: int) -> Writer:
        """The same right in another process, which was told the number of the opening record."""
        writer = cls.__new__(cls)
        writer._store, writer._generation = store, generation
        writer.opened = opened
        return writer

    def _newest_opening(self, numbers: list[int], execution: str) -> int:
        for number in reversed(numbers):
            path = record_path(number)
            try:
                record = json_object(closed(first_line(self._store, number)), path)
                held = checked(path, lambda: count(record["generation"]))  # noqa: B023
            except (FileNotFoundError, CheckpointDamaged):
                continue
            same = bool(execution) and record.get("execution") == execution
            return held if same else 0
        return 0

    def commit(self, manifest: Manifest) -> str:
        """Make the checkpoint visible; returns its record's path.

        An attempt that is committed already stays as it is. Raises GenerationOver when another
        generation has opened the log since.
        """
        path = self._commit(manifest, forward=False)
        assert path is not None
        return path

    def commit_forward(self, manifest: Manifest) -> str | None:
        """The same; None, with nothing done, where this generation has committed a later version.

        Saves in the background may overtake each other, and the newest record is the checkpoint.
        """
        return self._commit(manifest, forward=True)

    def _commit(self, manifest: Manifest, *, forward: bool) -> str | None:
        try:
            document = encode(replace(manifest, opened=self.opened, generation=self._generation))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"a value can't be written as JSON: {error}") from error
        while True:
            newest = max(record_numbers(self._store), default=0)
            if newest > self.opened and not self._is_mine(newest):
                raise GenerationOver(
                    self._generation, f"{self._store.url} has been opened by a later generation"
                )
            done = record_of(self._store, manifest.attempt)
            if done is not None:
                return done
            if forward and newest > self.opened and self._version_of(newest) > manifest.version:
                return None
            path = record_path(max(newest, self.opened) + 1)
            if self._store.create(path, document):
                return path

    def _version_of(self, number: int) -> int:
        try:
            summary = decode_summary(first_line(self._store, number), record_path(number))
        except (FileNotFoundError, CheckpointDamaged):
            return -1
        return -1 if summary is None else summary.version

    def _is_mine(self, number: int) -> bool:
        try:
            record = json_object(closed(first_line(self._store, number)), record_path(number))
        except FileNotFoundError:
            return True
        except CheckpointDamaged:
            return False
        return bool(record.get("kind") == "commit" and record.get("opened") == self.opened)
