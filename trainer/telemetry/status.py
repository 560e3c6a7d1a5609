"""The status of a run: each agent writes its own part, and any reader can put them together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.names import NODE, named
from trainer.telemetry.directory import RunDirectory
from trainer.telemetry.documents import HEAD, PART
from trainer.telemetry.files import read_document, replace_json

FROM_PARTS = ("agents", "workers", "damaged")
"""Keys of a status that the agents' parts make."""


def write_part(directory: RunDirectory, node: str, part: Mapping[str, Any]) -> None:
    """Write one agent's part. Raises ValueError for what names no node."""
    replace_json(directory.agents / f"{named(NODE, node)}.json", part)


def merge(head: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The whole from what rank 0's agent knows and each agent's part. Pure.

    A part of an older generation than the head's is shown as it is, marked `current: false`.
    """
    generation = head.get("generation", 0)
    agents = []
    workers: list[dict[str, Any]] = []
    for node, part in sorted(parts.items()):
        current = part.get("generation") == generation
        agents.append(
            {
                "node": node,
                "pid": part.get("pid"),
                "host": part.get("host"),
                "state": part.get("state"),
                "generation": part.get("generation"),
                "current": current,
                "time": part.get("time"),
            }
        )
        workers.extend({**worker, "node": node} for worker in part.get("workers") or ())
    workers.sort(key=lambda worker: (worker.get("rank") is None, worker.get("rank") or 0))
    return {**head, "agents": agents, "workers": workers}


def gather(directory: RunDirectory, head: Mapping[str, Any]) -> dict[str, Any]:
    """`merge` over the parts that lie in the run directory; `damaged` says of the others why."""
    parts, damaged = {}, []
    for path in sorted(directory.agents.glob("*.json")):
        if not NODE.fits(path.stem):
            continue
        try:
            part = read_document(path, PART)
        except ValueError as error:
            damaged.append(str(error))
        else:
            if part is not None:
                parts[path.stem] = part
    return merge(head, parts) | ({"damaged": damaged} if damaged else {})


def write_status(directory: RunDirectory, head: Mapping[str, Any]) -> None:
    """Written by the agent of rank 0, and by the only agent there is."""
    replace_json(directory.status, gather(directory, {**head, "time": time.time()}))


def find_run(word: str, runs: Path = Path("runs")) -> Path | None:
    """A run's directory, from its path or from its id below `runs`; None where there is none."""
    for root in (Path(word), runs / word):
        directory = RunDirectory(root)
        try:
            if directory.status.is_file() or directory.job.is_file():
                return root
        except OSError:
            continue  # no path at all, such as one of ten thousand characters
    return None


def read_status(root: Path) -> dict[str, Any] | None:
    """The newest status of the run in `root`; None when there is none.

    Raises ValueError, which names the file, when it is not as it must be.
    """
    directory = RunDirectory(root)
    head = read_document(directory.status, HEAD)
    if head is None:
        return None
    return gather(directory, {k: v for k, v in head.items() if k not in FROM_PARTS})
