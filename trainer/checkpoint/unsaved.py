"""Which of the states that were to be saved is not: what a run that ends has to say.

A save that failed is no loss once a later one is whole. So what counts at the end is whether the
newest that failed is newer than the newest that did not.

Imports no torch.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.checkpoint import log
from trainer.checkpoint.store import open_store
from trainer.errors import CheckpointError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""A full disk, and a quota that is used up: what both need is that something goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsaved:
    """A version that was to be saved in a generation, and why it is not.

    `url` and `options` are of the checkpoint directory.
    """

    version: int
    generation: int
    error: str
    url: str
    options: Mapping[str, Any] = field(default_factory=dict)


class SaveLedger:
    """What became of the saves that one process has to do with."""

    def __init__(self) -> None:
        self._saved = (-1, 0)
        """Version and generation of the newest that did not fail."""
        self._failed: Unsaved | None = None
        """The newest that did."""

    def saved(self, version: int, generation: int) -> None:
        """Its part is written; at the rank that commits, it is committed."""
        self._saved = max(self._saved, (version, generation))

    def failed(self, unsaved: Unsaved) -> None:
        """It will never be whole. The first reason that is heard for a version stays."""
        before = self._failed
        if before is None or _key(unsaved) > _key(before):
            self._failed = unsaved

    @property
    def unsaved(self) -> Unsaved | None:
        """The newest save that failed, unless a later one did not."""
        failed = self._failed
        return None if failed is None or _key(failed) < self._saved else failed


def _key(unsaved: Unsaved) -> tuple[int, int]:
    return unsaved.version, unsaved.generation


def account(unsaved: Unsaved) -> str:
    """What is not saved, why, and what is. Looks into the checkpoint directory; blocks."""
    told = f"version {unsaved.version} is not saved: {unsaved.error}"
    try:
        newest = log.newest_version(open_store(unsaved.url, unsaved.options))
    except (OSError, CheckpointError):
        return told
    if newest < 0:
        return f"{told}; there is no checkpoint"
    return f"{told}; the newest checkpoint is of version {newest}"


def mending(error: OSError) -> str:
    """What the operator can do about an error of the file system, as the end of a sentence."""
    match error.errno:
        case errno.ENOSPC:
            return (
                "; the disk is full: free some of it, or keep fewer checkpoints (checkpoint.keep)"
            )
        case errno.EDQUOT:
            return "; the quota is used up: raise it, or keep fewer checkpoints (checkpoint.keep)"
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return "; make it writable, or name another place by checkpoint.directory"
        case _:
            return ""
