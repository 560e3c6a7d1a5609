"""Host memory that outlives a worker: slots in shared memory, each with one staged state.

A slot's file begins with the very bytes of the data file that is to be written; what else the
rank holds follows, for mirrors. Beside it, a JSON description appears in one step once the copy is
whole, and goes before the slot is filled anew; a mark says that the slot has yet to be written to
storage. With two slots one is always whole.

Imports no torch: the agent reads here what a worker has staged.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.errors import CheckpointDamaged, CheckpointError
from trainer.names import ATTEMPT, DATA_PATH, named
from trainer.outside.document import loads

JSON = Any
Bytes = npt.NDArray[np.uint8]
FORMAT = "remesh.stage"
GRAIN = 2 << 20
SLOTS = 2
"""Slots of a rank: with two, one is always whole while the other is filled."""


def enlarge(size: str) -> str:
    """How shared memory gets as large as `size` says, which is `768m` for instance."""
    return (
        f"give the container more shared memory (docker run --shm-size={size}, in Kubernetes an "
        f"emptyDir of medium Memory at /dev/shm; mount -o remount,size={size} on a machine of "
        "your own)"
    )


def enlarging(error: OSError) -> str:
    """What mends a staging directory that is full, as the end of a sentence."""
    return f"; {enlarge('…')}" if error.errno == errno.ENOSPC else ""


def own_directory(local_rank: int) -> str:
    """The name of a worker's own directory in its node's."""
    return f"own-{local_rank}"


class Slot:
    """One reused buffer. `path` is its file; the description is `path` with `.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.description = path.with_suffix(".json")
        self.mark = path.with_suffix(".pending")
        self._map: mmap.mmap | None = None

    @property
    def pending(self) -> bool:
        """Whether its content has yet to be written to storage."""
        return self.mark.exists()

    @property
    def version(self) -> int:
        """The version it holds whole, or -1."""
        try:
            return int(json.loads(self.description.read_bytes())["version"])
        except (FileNotFoundError, ValueError, KeyError):
            return -1

    def memory(self, size: int) -> Bytes:
        """At least `size` bytes to fill; what the slot held is whole no more.

        Raises CheckpointError when shared memory has no room for it.
        """
        try:
            self.description.unlink(missing_ok=True)
            if self._map is None or len(self._map) < size:
                self._map = self._grown(-(-size // GRAIN) * GRAIN)
        except OSError as error:
            raise CheckpointError(
                f"no room to stage {size} bytes in {self.path.parent}: {error}{enlarging(error)}"
            ) from error
        return np.frombuffer(self._map, dtype=np.uint8)

    def _grown(self, size: int) -> mmap.mmap:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Taken before it is mapped: a write to a page that a full tmpfs can't give is a SIGBUS.
            os.posix_fallocate(descriptor, 0, size)
            flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
            return mmap.mmap(descriptor, os.fstat(descriptor).st_size, flags)
        finally:
            os.close(descriptor)

    def publish(self, description: JSON, *, pending: bool) -> Path:
        """Say that the slot is whole. Returns the description's path.

        Raises CheckpointError when shared memory has no room for the description.
        """
        temporary = self.description.with_suffix(".json.tmp")
        try:
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps(description, separators=(",", ":")))
            if pending:
                self.mark.touch()
            temporary.rename(self.description)
        except OSError as error:
            self.mark.unlink(missing_ok=True)
            raise CheckpointError(
                f"no room to describe what is staged in {self.path.parent}: {error}"
                f"{enlarging(error)}"
            ) from error
        return self.description


class Slots:
    """The slots of one worker, in a directory of shared memory of its own."""

    def __init__(self, directory: str | os.PathLike[str], count: int = SLOTS) -> None:
        self._slots = [Slot(Path(directory) / f"{index}.stage") for index in range(count)]

    def free(self) -> Slot | None:
        """The slot to fill next: of those with nothing left to write, the one with the oldest."""
        return min(
            (slot for slot in self._slots if not slot.pending),
            key=lambda slot: slot.version,
            default=None,
        )

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a slot's state makes the condition true; False when the time is over."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def idle(self) -> bool:
        """Whether everything staged has been written."""
        return not any(slot.pending for slot in self._slots)

    def all_free(self) -> bool:
        """Whether the next save can be staged now."""
        return self.free() is not None

    def left_behind(self) -> list[Path]:
        """What has yet to be written of a process that has died: the whole slots' descriptions.

        A slot that never became whole is free again.
        """
        pending = [slot for slot in self._slots if slot.pending]
        for slot in pending:
            if slot.version < 0:
                slot.mark.unlink(missing_ok=True)
        return [slot.description for slot in pending if slot.version >= 0]


def read_description(path: str | os.PathLike[str]) -> JSON:
    """A whole slot's description. Raises CheckpointDamaged, FileNotFoundError."""
    try:
        value = loads(Path(path).read_bytes())
    except ValueError as error:
        raise CheckpointDamaged(f"{path} describes no staged state: {error}") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise CheckpointDamaged(f"{path} describes no staged state")
    check_names(value, str(path))
    return value


def check_names(description: Mapping[str, JSON], source: str) -> None:
    """Whether all that a description makes into a path has its form. Raises CheckpointDamaged.

    A description comes from another node where it is a mirror's.
    """
    try:
        attempt = named(ATTEMPT, description.get("attempt"))
        if description.get("path") is not None:
            path = named(DATA_PATH, description["path"])
            if not path.startswith(f"data/{attempt}/"):
                raise ValueError(f"{path} is not of attempt {attempt}")
    except ValueError as error:
        raise CheckpointDamaged(f"{source} describes no staged state: {error}") from error


def staged_bytes(path: str | os.PathLike[str], size: int) -> Bytes:
    """The first `size` bytes of a slot, mapped to be read."""
    with Path(path).open("rb") as file:
        if os.fstat(file.fileno()).st_size < size:
            raise CheckpointDamaged(f"{path} is cut short")
        return np.frombuffer(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ), dtype=np.uint8)
