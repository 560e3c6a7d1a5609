"""A directory in shared memory that is its owner's for as long as the owner lives.

The owner holds a lock on it. A pid in its name would not tell whether the owner is gone: where a
container starts again in its pod, the shared memory is the old one, and the new agent has the old
one's pid.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX, _HIDDEN = "remesh-stage-", ".remesh-stage-"


class Shelf:
    """A directory that nobody else can read; what earlier owners left beside it is removed."""

    def __init__(self, root: Path, name: str) -> None:
        """Raises OSError when it can't be made."""
        remove_orphans(root)
        hidden = Path(tempfile.mkdtemp(prefix=_HIDDEN, dir=root))
        self._lock = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Seen by others only now that it is locked.
        self.path = hidden.rename(root / f"{_PREFIX}{os.getpid()}-{name}")

    def remove(self) -> None:
        """Give the memory back."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_orphans(root: Path) -> None:
    """Take back what agents left that were killed."""
    for path in root.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, or gone just now
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
