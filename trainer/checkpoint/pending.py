"""One save at the agent that is to commit it, from when its own part is written until it is over.

Imports no torch.
"""

from __future__ import annotations

import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

from trainer.checkpoint import log
from trainer.checkpoint.attempt import gather, parts_at
from trainer.checkpoint.fate import Commit, End, Parts, Wait, fate
from trainer.checkpoint.keep import clean
from trainer.checkpoint.manifest import Manifest
from trainer.checkpoint.part import blank_of, coming, keep_of
from trainer.checkpoint.room import with_room
from trainer.checkpoint.store import Store
from trainer.errors import GenerationOver

JSON = Any
logger = logging.getLogger(__name__)
OPENED = "opened.json"
NEWEST_SECONDS = 5.0
"""Between two looks at what others have committed meanwhile, which are dearer than one at parts."""


class Pending:
    """Looks for the parts of one save, and commits it. Used by one thread but for `fails`."""

    def __init__(self, store: Store, staged: JSON, description: Path) -> None:
        self._store = store
        self._staged = staged
        self._description = description
        self._writers = frozenset(staged["commit"]["writers"])
        self._failed: dict[int, str] = {}
        """Ranks of which this process knows that no part of theirs will come, and why."""
        self._there: set[int] = set()
        now = time.monotonic()
        self._news = now
        """When the last part was found."""
        self._whole_since: float | None = None
        self._newest = -1
        """The newest committed version, as far as is known."""
        self._newest_at = now

    def fails(self, rank: int, reason: str) -> None:
        """A part that will never come. From any thread."""
        self._failed.setdefault(rank, reason)

    def overtaken_by(self, version: int) -> None:
        """A later version is committed. From any thread."""
        self._newest = max(self._newest, version)

    def look(
        self,
        *,
        patience: float,
        turn: float = 0.0,
        earlier: bool = False,
        overtaken: bool = False,
        given_up: bool = False,
    ) -> Wait | Commit | End:
        """What becomes of it; see `Parts`. Raises OSError."""
        there, failed = parts_at(self._store, self._staged["attempt"])
        there &= self._writers
        now = time.monotonic()
        if there != self._there:
            self._there, self._news = there, now
        if there == self._writers:
            self._whole_since = self._whole_since or now
        elif now - self._newest_at > NEWEST_SECONDS:
            self._newest_at = now
            self._newest = max(self._newest, log.newest_version(self._store))
        return fate(
            Parts(
                version=self._staged["version"],
                writers=self._writers,
                there=there,
                failed=failed | self._failed,
                newest=self._newest,
                earlier=earlier,
                overtaken=overtaken,
                given_up=given_up,
                waited=now - self._news,
                patience=patience,
                whole_for=0.0 if self._whole_since is None else now - self._whole_since,
                turn=turn,
            )
        )

    def commit(self) -> tuple[str | None, int]:
        """Make it visible; the record's path, and the bytes of the data.

        No path where a later version was committed first. Raises OSError, CheckpointError, and
        GenerationOver where another generation has the right to commit.
        """
        store, staged = self._store, self._staged
        manifest = gather(store, blank_of(staged), staged["commit"]["writers"])
        write = partial(self._record, manifest)
        path = with_room(store, coming(staged), write, now=time.time())
        if path is not None:
            try:
                clean(store, keep_of(staged), now=time.time())
            except OSError as error:
                logger.warning("old checkpoints in %s can't be removed: %s", store.url, error)
        return path, manifest.bytes

    def _record(self, manifest: Manifest) -> str | None:
        """Commit, if need be by the right that this node's worker has taken for a later generation.

        None where a later version was committed first.
        """
        store, staged = self._store, self._staged
        generation, opened = staged["generation"], staged["commit"]["opened"]
        while True:
            try:
                right = log.Writer.attached(store, generation=generation, opened=opened)
                record = right.commit_forward(manifest)
                if record is None:
                    logger.warning("version %d is late: a later one is committed", manifest.version)
                    return None
                return f"{store.url}/{record}"
            except GenerationOver:
                newer = read_opening(self._description.parent)
                if newer is None or newer["url"] != staged["url"] or newer["opened"] <= opened:
                    raise
                generation, opened = newer["generation"], newer["opened"]


def write_opening(directory: Path, url: str, generation: int, opened: int) -> None:
    """Note by which record the worker that stages here has the right to commit."""
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / f"{OPENED}.tmp"
    temporary.write_text(json.dumps({"url": url, "generation": generation, "opened": opened}))
    temporary.rename(directory / OPENED)


def read_opening(directory: Path) -> JSON:
    """What `write_opening` noted, or None."""
    try:
        return json.loads((directory / OPENED).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
