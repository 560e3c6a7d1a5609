"""The last save of a job that has no workers to make one: from what lies staged in agents' memory.

A job that has lost too many nodes can't form the mesh that would gather its state, but all of it is
there: each agent has its own ranks' staged parts, and its neighbour's mirrors. The parts of one
version belong to one attempt, whoever writes them. So every agent that leaves writes what it has
of the newest version, and who has rank 0's part commits once all parts are there; where one is
lost, the version before is tried.

Imports no torch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.checkpoint import log
from trainer.checkpoint.attempt import receipts_at
from trainer.checkpoint.staging import read_description
from trainer.checkpoint.store import Store, open_store
from trainer.checkpoint.writer import LAST_POLL, LEAVING_PATIENCE, Outcome, save_staged
from trainer.errors import CheckpointDamaged
from trainer.outside.echo import shown
from trainer.supervision import in_threads

JSON = Any
logger = logging.getLogger(__name__)
THREADS = 8
MIRROR = "from-"
"""What the directory of another node's mirror begins with."""


@dataclass(slots=True)
class Version:
    """One version as it lies staged here: descriptions of this node's ranks, and of mirrors."""

    version: int
    attempt: str
    url: str
    options: JSON
    own: list[Path] = field(default_factory=list)
    mirrors: list[Path] = field(default_factory=list)
    committer: Path | None = None


def staged_versions(directory: Path) -> list[Version]:
    """What lies whole in a node's staging directory, newest first.

    A mirror says where it is to be saved, but its node is not believed: it counts only where a
    worker of this node saves too.
    """
    found: dict[str, Version] = {}
    places = []
    for path in sorted(directory.glob("*/*.stage"), key=_mirrors_last):
        description = path.with_suffix(".json")
        try:
            staged = read_description(description)
        except (FileNotFoundError, CheckpointDamaged):
            continue
        place = staged["url"], staged["options"]
        if not _is_mirror(path):
            places.append(place)
        elif place not in places:
            logger.warning("a mirror that is to be saved in %s is left out", shown(staged["url"]))
            continue
        here = found.setdefault(
            staged["attempt"],
            Version(staged["version"], staged["attempt"], staged["url"], staged["options"]),
        )
        if staged["commit"] is not None and here.committer is None:
            here.committer = description
        elif _is_mirror(path):
            here.mirrors.append(description)
        else:
            here.own.append(description)
    return sorted(found.values(), key=lambda version: version.version, reverse=True)


def _is_mirror(path: Path) -> bool:
    return path.parent.name.startswith(MIRROR)


def _mirrors_last(path: Path) -> tuple[bool, Path]:
    return _is_mirror(path), path


def salvage(
    directory: Path,
    *,
    node: str,
    patience: float = LEAVING_PATIENCE,
    given_up: Callable[[], bool] = lambda: False,
) -> Outcome | None:
    """Save the newest version that all agents together hold; blocks.

    `patience` is how many seconds may go by without another agent's part, or as long as our own
    took. None where storage has all that is staged. Otherwise how it ended here; `path` is the
    record where this agent committed it, and `error` says why nothing could be saved.
    """
    outcome: Outcome | None = None
    for version in staged_versions(directory):
        store = open_store(version.url, version.options)
        if log.newest_version(store) >= version.version:
            return None
        outcome = _save(version, store, node, patience, given_up)
        if outcome.error is None or given_up():
            return outcome
    return outcome


def _save(
    version: Version, store: Store, node: str, patience: float, given_up: Callable[[], bool]
) -> Outcome:
    began = time.monotonic()
    parts = [(path, "") for path in version.own] + [(path, node) for path in version.mirrors]
    outcomes = in_threads(
        lambda part: save_staged(part[0], copy_of=part[1]), parts, threads=THREADS
    )
    patience = max(patience, time.monotonic() - began)
    committer = version.committer
    if committer is not None:
        mirrored = _is_mirror(committer)
        return save_staged(
            committer, given_up=given_up, patience=patience, copy_of=node if mirrored else ""
        )
    failed = next((outcome for outcome in outcomes if outcome.error is not None), None)
    if failed is not None:
        return failed
    committed = _committed(version, store, patience, given_up)
    return Outcome(
        version=version.version,
        generation=outcomes[0].generation,
        rank=outcomes[0].rank,
        path=None,
        bytes=sum(outcome.bytes for outcome in outcomes),
        seconds=time.monotonic() - began,
        error=None if committed else f"version {version.version} was not whole at any node",
    )


def _committed(
    version: Version, store: Store, patience: float, given_up: Callable[[], bool]
) -> bool:
    """Wait until another agent has committed it; False when no more parts come."""
    there: set[int] = set()
    last = time.monotonic()
    while log.newest_version(store) < version.version:
        found = receipts_at(store, version.attempt)
        now = time.monotonic()
        if found != there:
            there, last = found, now
        if given_up() or now - last > patience:
            return False
        time.sleep(LAST_POLL)
    return True
