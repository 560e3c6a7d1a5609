"""A small file system that a few processes share, to be filled and emptied while they run."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

FILLER = "filler"
"""What takes up the room."""


class SharedDisk:
    """A tmpfs of `size` (`40m`) on `path`, seen by the commands that `seen_by` makes alone."""

    def __init__(self, path: Path, size: str) -> None:
        path.mkdir(parents=True, exist_ok=True)
        mount = f"mount -t tmpfs -o size={size} tmpfs '{path}' && echo ready && exec sleep infinity"
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", mount], stdout=subprocess.PIPE, text=True
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == "ready\n"
        self._here = Path(f"/proc/{self._keeper.pid}/root{path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._keeper.kill()
        self._keeper.communicate()

    def seen_by(self, command: Sequence[str], folder: Path) -> list[str]:
        """The command, in that working directory, with the disk before it."""
        space = f"--mount=/proc/{self._keeper.pid}/ns/mnt"
        return ["nsenter", space, f"--wd={folder}", *command]

    def fill(self) -> None:
        """Until not one byte more has room."""
        with (self._here / FILLER).open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def free(self) -> None:
        (self._here / FILLER).unlink(missing_ok=True)
