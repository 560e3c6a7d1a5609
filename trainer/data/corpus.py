"""Text as bytes: files one after the other in sorted order, read where they are needed."""

from __future__ import annotations

import bisect
import glob
import os
import sysconfig
from collections.abc import Iterable, Sequence
from functools import lru_cache
from io import FileIO
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer.errors import JobError

BYTE_VOCABULARY = 256
_SKIPPED = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules", ".git"})
_OPEN_FILES = 64


class Corpus:
    """The bytes of many files, one after the other."""

    def __init__(self, files: Sequence[tuple[Path, int]]) -> None:
        """`files`: each path with its size in bytes."""
        self._paths = [path for path, _ in files]
        self._ends = list(accumulate(size for _, size in files))
        self._open: dict[int, FileIO] = {}

    def __len__(self) -> int:
        """Bytes in all."""
        return self._ends[-1] if self._ends else 0

    def read(self, begin: int, length: int) -> npt.NDArray[np.uint8]:
        """`length` bytes from `begin` on; they may lie in several files.

        Raises:
            JobError: a file is gone or has become shorter since the corpus was opened.
            OSError: it can't be read here and now.
        """
        parts: list[bytes] = []
        number = bisect.bisect_right(self._ends, begin)
        while length > 0:
            start = self._ends[number - 1] if number else 0
            take = min(length, self._ends[number] - begin)
            parts.append(self._read_file(number, begin - start, take))
            begin, length, number = begin + take, length - take, number + 1
        return np.frombuffer(b"".join(parts), dtype=np.uint8)

    def _read_file(self, number: int, begin: int, length: int) -> bytes:
        path = self._paths[number]
        try:
            part = os.pread(self._file(number).fileno(), length, begin)
        except OSError as error:
            raise _unreadable(path, error) from None
        if len(part) < length:
            raise JobError(f"data.path: {path} became shorter while the job ran")
        return part

    def _file(self, number: int) -> FileIO:
        if number not in self._open:
            while len(self._open) >= _OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            self._open[number] = FileIO(self._paths[number])
        return self._open[number]


def open_corpus(paths: Sequence[str] | None) -> Corpus:
    """Find the files; the Python standard library's source where `paths` is None.

    A process that asks for the same again is given the same: a worker does so beforehand, because
    to look at thousands of files takes as long as to form a generation's groups.

    Raises:
        JobError: a path names no file, or one that can't be read.
    """
    return _corpus(None if paths is None else tuple(paths))


@lru_cache(maxsize=1)
def _corpus(paths: tuple[str, ...] | None) -> Corpus:
    if paths is None:
        root = Path(sysconfig.get_paths()["stdlib"])
        return Corpus(_sized(_files_below(root, ".py")))
    return Corpus(_sized(file for path in paths for file in _files(path)))


def _files(path: str) -> list[Path]:
    whole = Path(path).expanduser()
    if whole.is_dir():
        found = _files_below(whole, "")
    elif whole.is_file():
        found = [whole]
    else:
        found = sorted(Path(name) for name in glob.glob(str(whole), recursive=True))  # noqa: PTH207
        found = [file for file in found if file.is_file()]
    if not found:
        raise JobError(f"data.path: {path} names no file; give a file, a directory or a glob")
    return found


def _files_below(root: Path, suffix: str) -> list[Path]:
    found: list[Path] = []
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in _SKIPPED)
        found += [Path(directory) / name for name in files if name.endswith(suffix)]
    return sorted(found)


def _unreadable(path: Path, error: OSError) -> Exception:
    """The job's mistake, which nothing but another job mends; or what befell this process alone (no
    descriptors, a disk that fails), so that another may read it."""
    told = f"data.path: can't read {path}: {error.strerror}"
    mistakes = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
    return JobError(told) if isinstance(error, mistakes) else OSError(error.errno, told)


def _sized(files: Iterable[Path]) -> list[tuple[Path, int]]:
    sized: list[tuple[Path, int]] = []
    for file in files:
        try:
            size = file.stat().st_size
        except OSError as error:
            raise _unreadable(file, error) from None
        if size:
            sized.append((file, size))
    return sized
