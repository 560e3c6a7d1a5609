"""Where checkpoints lie: a small port, and the file systems behind it.

Paths are relative to the checkpoint directory, with `/` between their parts.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trainer.supervision import in_threads

Buffer = bytes | bytearray | memoryview
Arrived = Callable[[memoryview], None]
READ_BYTES = 256 << 10
WRITE_BYTES = 8 << 20
DIRECT_BYTES = 16 << 20
DIRECT_THREADS = 4
PAGE = 4096
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


class Store(Protocol):
    """All that a checkpoint needs of a file system or object store. Any may raise OSError.

    `remote` says that every read crosses a network: there is no page cache before it.
    """

    url: str
    remote: bool

    def write(self, path: str, parts: Iterable[Buffer], *, durable: bool = True) -> int:
        """Write a file whole, in place of any; by default durable on return. Returns its bytes."""

    def create(self, path: str, data: bytes) -> bool:
        """Make a file appear whole, in one step, or not at all; False when there is one already."""

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """Up to `length` bytes from `start`. Raises FileNotFoundError."""

    def read_into(self, path: str, start: int, target: memoryview, arrived: Arrived) -> int:
        """Fill the target from `start`; returns the bytes read, fewer only at the file's end.

        `arrived` is given all of them, piece by piece and in order, each as soon as it is there.
        """

    def size(self, path: str) -> int:
        """The file's bytes. Raises FileNotFoundError."""

    def names(self, path: str) -> list[str]:
        """What lies directly in a directory; empty when there is none."""

    def remove(self, path: str) -> None:
        """Remove a file; quiet when there is none."""

    def remove_tree(self, path: str) -> None:
        """Remove a directory and what is in it; quiet when there is none."""

    def free(self) -> int | None:
        """Bytes that can still be written; None where nobody knows a limit."""

    def age(self, path: str, now: float) -> float:
        """Seconds since the newest change in a directory. Raises FileNotFoundError."""


class LocalStore:
    """A local or shared POSIX file system."""

    remote = False

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._root = Path(directory).absolute()
        self.url = str(self._root)

    def write(self, path: str, parts: Iterable[Buffer], *, durable: bool = True) -> int:
        target = self._root / path
        self._make(target.parent)
        try:
            return self._write(target, parts, durable=durable)
        except OSError:
            # What is cut short is of no use to anybody, and on a full disk in everybody's way.
            with contextlib.suppress(OSError):
                target.unlink()
            raise

    def _write(self, target: Path, parts: Iterable[Buffer], *, durable: bool) -> int:
        written = 0
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            for part in parts:
                view = memoryview(part).cast("B")
                past = write_direct(target, view, written)
                while past < len(view):
                    past += os.pwrite(descriptor, view[past : past + WRITE_BYTES], written + past)
                written += len(view)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if durable:
            self._sync(target.parent)
        return written

    def create(self, path: str, data: bytes) -> bool:
        target = self._root / path
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        self.write(str(temporary.relative_to(self._root)), [data])
        try:
            return self._rename_new(temporary, target)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _rename_new(self, source: Path, target: Path) -> bool:
        try:
            rename_new(source, target)
        except FileExistsError:
            return False
        self._sync(target.parent)
        return True

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        with (self._root / path).open("rb") as file:
            file.seek(start)
            return file.read(-1 if length is None else length)

    def read_into(self, path: str, start: int, target: memoryview, arrived: Arrived) -> int:
        descriptor = os.open(self._root / path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(descriptor, start, len(target), os.POSIX_FADV_WILLNEED)
            done = 0
            while done < len(target):
                piece = target[done : done + READ_BYTES]
                count = os.preadv(descriptor, [piece], start + done)
                if count == 0:
                    break
                arrived(piece[:count])
                done += count
            return done
        finally:
            os.close(descriptor)

    def size(self, path: str) -> int:
        return (self._root / path).stat().st_size

    def names(self, path: str) -> list[str]:
        try:
            return sorted(entry.name for entry in (self._root / path).iterdir())
        except FileNotFoundError:
            return []

    def remove(self, path: str) -> None:
        (self._root / path).unlink(missing_ok=True)

    def remove_tree(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._root / path)

    def free(self) -> int | None:
        there = next(path for path in (self._root, *self._root.parents) if path.exists())
        found = os.statvfs(there)
        return found.f_bavail * found.f_frsize

    def age(self, path: str, now: float) -> float:
        root = self._root / path
        times = [root.stat().st_mtime]
        for entry in root.iterdir():
            with contextlib.suppress(FileNotFoundError):
                times.append(entry.stat().st_mtime)
        return now - max(times)

    def _make(self, directory: Path) -> None:
        if directory.is_dir():
            return
        self._make(directory.parent)
        directory.mkdir(exist_ok=True)
        self._sync(directory.parent)

    def _sync(self, directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_direct(path: Path, view: memoryview, position: int) -> int:
    """Write the head of a large buffer past the page cache, several parts at a time.

    Memory and position must lie on pages. Returns the bytes written: 0 where the buffer is small
    or elsewhere, or the file system has no direct writes.
    """
    size = len(view) // PAGE * PAGE
    address = np.frombuffer(view, dtype=np.uint8).ctypes.data if size >= DIRECT_BYTES else 1
    if address % PAGE or position % PAGE:
        return 0
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTSUP):
            return 0
        raise

    def write_part(start: int) -> None:
        part = view[start : min(start + WRITE_BYTES, size)]
        if os.pwrite(descriptor, part, position + start) != len(part):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    try:
        in_threads(write_part, range(0, size, WRITE_BYTES), threads=DIRECT_THREADS)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return 0
        raise
    finally:
        os.close(descriptor)
    return size


def rename_new(source: Path, target: Path) -> None:
    """Rename, never onto something: raises FileExistsError, with nothing changed.

    Where the file system has no such rename, a hard link takes its place.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        paths = (os.fsencode(source), os.fsencode(target))
        if rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(code, os.strerror(code), str(target))
    os.link(source, target)
    source.unlink()


def this_host() -> str:
    """The running kernel, and so its page cache: containers of one machine have the same."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


def open_store(
    directory: str | os.PathLike[str], options: Mapping[str, Any] | None = None
) -> Store:
    """The store behind a path (`~` is somebody's home) or a URL, with fsspec's options for it.

    Raises CheckpointError for a URL that can't be opened.
    """
    text = os.fspath(directory)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    elif "://" in text:
        from trainer.checkpoint.objects import ObjectStore

        return ObjectStore(text, options)
    return LocalStore(os.path.expanduser(text))  # noqa: PTH111
