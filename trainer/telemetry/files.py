"""Two ways to write a file that others read meanwhile: whole by rename, or a line at once."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.outside.document import loads
from trainer.outside.echo import cut
from trainer.outside.shapes import ANY, Shape, checked, fits
from trainer.telemetry.documents import METRIC

MAX_BYTES = 256 << 20
"""Of a document: the status of sixty thousand ranks has a tenth of that."""

FILE_MODE = 0o664
"""Of what a run leaves behind, less what the umask takes: others never write to it."""
PRIVATE_MODE = 0o600
"""Of what may hold passwords."""


def replace(path: Path, text: str, *, private: bool = False) -> None:
    """Write `text` so that a reader sees the old file or the new one, never a part.

    `private`: nobody but this user may read it, whatever the umask is.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()  # of a killed process that had our pid, or a link that others have put
        mode = PRIVATE_MODE if private else FILE_MODE
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
        draft.write_text(text, encoding="utf-8")
        draft.rename(path)
    except OSError:
        # On a full disk it would hold the room that the next try needs.
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def replace_json(path: Path, value: Mapping[str, Any], *, private: bool = False) -> None:
    """`replace` with indented JSON."""
    replace(path, json.dumps(value, indent=1) + "\n", private=private)


def read_document(path: Path, shape: Shape) -> dict[str, Any] | None:
    """The object in `path`; None when there is no such file.

    Raises ValueError, which names the file, for one that can't be read or is not as it must be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path} has more than {MAX_BYTES} bytes")
    try:
        value = loads(data)
    except ValueError as error:
        raise ValueError(f"{path} can't be read: {cut(str(error))}") from error
    return checked(value, shape, str(path))


def read_json(path: Path, shape: Shape = ANY) -> dict[str, Any] | None:
    """`read_document`, for who must go on: None also for a file that is not as it must be."""
    try:
        return read_document(path, shape)
    except ValueError:
        return None


class LineFile:
    """A file of JSON lines that several processes append to.

    Each line is one `write` to a descriptor opened with O_APPEND, so lines of different
    writers never mix on a local filesystem. The file is made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        """Of the open file; -1 before the first line, and after the last."""
        self._cut = False
        """Whether the last line was cut short: the next one begins anew."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line. Raises OSError where there is no room for all of it."""
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, FILE_MODE)
        line = json.dumps(record, separators=(", ", ": ")) + "\n"
        data = ("\n" * self._cut + line).encode()
        written = os.write(self._descriptor, data)
        self._cut = written < len(data)
        if self._cut:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the descriptor; closing twice does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; a last line that is cut short is left out.

    Raises ValueError for a file that can't be read.
    """
    return (value for _number, value in numbered_lines(path) if isinstance(value, dict))


def numbered_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The number, from 1, and the value of each line of JSON; a line that is none has None.

    Empty lines are left out. Raises ValueError for a file that can't be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from error
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line:
            continue
        try:
            value = loads(line)
        except ValueError:
            value = None
        yield number, value


def metric_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics file that are as they must be."""
    return (line for line in read_lines(path) if fits(line, METRIC))
