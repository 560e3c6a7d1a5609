"""The mirrors that lie in this node's shared memory, as state that a rank can give.

A node's staging directory has one directory a staged rank: its own workers' and, sent by their
agents, other nodes'. Whichever ranks come next on the node share them out among themselves.
"""

from __future__ import annotations

import logging
from pathlib import Path

from trainer.checkpoint.mirror import staged_tensors
from trainer.checkpoint.staging import read_description
from trainer.errors import CheckpointDamaged
from trainer.worker.restore import Held

log = logging.getLogger(__name__)


def find_mirrors(staging: Path, *, turn: int, turns: int) -> list[Held]:
    """Every `turns`-th directory's whole slots, from the `turn`-th on."""
    held: list[Held] = []
    for directory in sorted(path for path in staging.glob("*") if path.is_dir())[turn::turns]:
        for description in sorted(directory.glob("[0-9]*.json")):
            try:
                held += _read(description)
            except (CheckpointDamaged, FileNotFoundError) as error:
                log.warning("the mirror %s is passed over: %s", description, error)
    return held


def _read(path: Path) -> list[Held]:
    staged, tensors = staged_tensors(path)
    if not staged.get("mirror"):
        return []  # it holds only what this rank was to write

    def unchanged() -> bool:
        try:
            return bool(read_description(path) == staged)
        except (CheckpointDamaged, FileNotFoundError):
            return False

    return [
        Held(
            key=str(path),
            kind="mirror",
            version=staged["version"],
            made_in=int(staged["values"].get("made_in", 0)),
            tensors=tensors,
            values=staged["values"],
            unchanged=unchanged,
        )
    ]
