"""The file by which others see that this node is inside a generation, such as a pod's probe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

VARIABLE = "REMESH_READY_FILE"


class ReadyFile:
    """Exists exactly while every worker of this node is inside a generation."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._ready: bool | None = None

    @classmethod
    def named_in(cls, environ: Mapping[str, str]) -> ReadyFile:
        """The one that the environment names; without a name, nothing is ever written."""
        return cls(Path(environ[VARIABLE]) if environ.get(VARIABLE) else None)

    def set(self, ready: bool) -> None:
        """Raises OSError when the file can't be made. Costs nothing when nothing changes."""
        if self._path is None or ready == self._ready:
            return
        if ready:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
        else:
            self._path.unlink(missing_ok=True)
        self._ready = ready
