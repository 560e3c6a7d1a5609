"""The machine's limits: plain parallel writes and reads, and files that are not in the cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PART = 8 << 20
THREADS = 4


def plain_write(target: Path, views: Sequence[memoryview], *, direct: bool) -> None:
    """Write equally long buffers one after the other, and wait for the disk.

    `direct` goes past the page cache; then the buffers must lie on pages.
    """
    flags = os.O_DIRECT if direct else 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags)
    size = len(views[0])

    def write(index: int) -> None:
        for start in range(0, size, PART):
            os.pwrite(descriptor, views[index][start : start + PART], index * size + start)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(write, range(len(views))))
    os.fsync(descriptor)
    os.close(descriptor)


def plain_read(target: Path, views: Sequence[memoryview]) -> None:
    """Read them back."""
    descriptor = os.open(target, os.O_RDONLY)
    size = len(views[0])

    def read(index: int) -> None:
        for start in range(0, size, PART):
            os.preadv(descriptor, [views[index][start : start + PART]], index * size + start)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(read, range(len(views))))
    os.close(descriptor)


def sync(path: Path) -> None:
    """Wait until a file, or what lies in a directory, is on the disk."""
    for file in path.iterdir() if path.is_dir() else [path]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def forget(file: Path) -> None:
    """Drop a file from the page cache."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
