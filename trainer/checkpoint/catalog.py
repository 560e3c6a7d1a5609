"""Find a checkpoint by what a person types: a directory, with `@VERSION` for an older one.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.checkpoint import log
from trainer.checkpoint.manifest import Manifest, Summary
from trainer.checkpoint.store import Store, open_store
from trainer.errors import CheckpointDamaged, JobError

IN_RUN = "checkpoints"


@dataclass(frozen=True, slots=True)
class Found:
    """A committed checkpoint: its store, its record's number, its manifest."""

    store: Store
    number: int
    manifest: Manifest


def directory_store(directory: str, options: Mapping[str, Any] | None = None) -> Store:
    """The store of a checkpoint directory, or of the one in a run's directory.

    Raises JobError when neither is there.
    """
    store = open_store(directory, options)
    if log.record_numbers(store):
        return store
    inner = open_store(f"{store.url}/{IN_RUN}", options)
    if log.record_numbers(inner):
        return inner
    raise JobError(f"{directory} holds no checkpoints: give a checkpoint or a run directory")


def find(reference: str, options: Mapping[str, Any] | None = None) -> Found:
    """The newest checkpoint of `DIRECTORY`, or the newest of a version: `DIRECTORY@VERSION`.

    Raises JobError when there is none, CheckpointDamaged when its manifest is damaged.
    """
    directory, at, version = reference.rpartition("@")
    if not at or not version.isdigit():
        directory, version = reference, ""
    store = directory_store(directory, options)
    for number, summary in log.summaries(store):
        if isinstance(summary, CheckpointDamaged):
            if not version:
                raise summary
            continue
        if not version or summary.version == int(version):
            return Found(store, number, log.read_manifest(store, number))
    there = ", ".join(str(s.version) for _, s in log.summaries(store) if isinstance(s, Summary))
    raise JobError(f"{directory} has no version {version or 'at all'}; it has: {there or 'none'}")
