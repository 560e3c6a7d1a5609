"""Whether two processes failed by the same error, and by one that would come again. Pure.

An error's *fingerprint* is its kind, its message without numbers, and the place in the code: ranks
that fail alike have the same one, whatever their number, pid or device. What comes from around a
process (a lost connection, an I/O error, memory that ran out, the accelerator) has none: it may be
gone the next time, also where every rank had it.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import PurePath

MAX_LENGTH = 400
"""Of a fingerprint, and of a line that is shown, in characters: they travel with reports."""

NOT_OF_THE_CODE = re.compile(
    r"Connection|Timeout|HTTP|URLError|Socket|SSL|OutOfMemory|MemoryError|Dist\w*Error"
    r"|InterruptedError|BrokenPipe|BlockingIO|ChildProcess|ProcessLookup|gaierror|RemoteError"
)
"""In names of exceptions that tell of what lies around a process."""
NOT_OF_THE_WORDS = re.compile(
    r"CUDA|NCCL|gloo|cuDNN|cuBLAS|HIP error|out of memory|[Cc]annot allocate|can't allocate"
    r"|[Cc]onnection|[Tt]imed? ?out|Broken pipe|[Ss]ocket|Too many open files|No space left"
    r"|Address already in use|temporarily unavailable|Input/output error|Stale file handle"
    r"|shared memory|DataLoader worker \(pid"
)
"""In messages that do."""
OF_THE_CODE = ("FileNotFoundError", "NotADirectoryError", "IsADirectoryError", "PermissionError")
"""The OSErrors that say that what was asked for isn't there; any other may pass."""

_HEX = re.compile(r"\b0x[0-9a-fA-F]+\b")
_NUMBER = re.compile(r"\d+")
_SPACE = re.compile(r"\s+")
_RANK = re.compile(r"^\[rank\d+\]: ?")
"""torch puts it before each line of a traceback."""
_TRACE = "Traceback (most recent call last):"
_NAMED = re.compile(r"([\w.]+\.)?(?P<name>[A-Z]\w*)(: (?P<message>.*))?")
_FATAL = "Fatal Python error"


def of_exception(error: BaseException) -> str:
    """The fingerprint of what a process raised; empty where it, or what led to it, may pass."""
    for cause in _causes(error):
        names = [kind.__name__ for kind in type(cause).__mro__]
        if "OSError" in names and not set(names) & set(OF_THE_CODE):
            return ""
        if any(NOT_OF_THE_CODE.search(name) for name in names) or _may_pass(str(cause)):
            return ""
    frames = traceback.extract_tb(error.__traceback__)
    where = ""
    if frames:
        last = frames[-1]
        where = f" in {last.name}, {PurePath(last.filename).name}:{last.lineno}"
    return _made_of(type(error).__name__, str(error), where)


def of_output(line: str) -> str:
    """The same from the line with which a process's output ends; see `last_words`."""
    named = _NAMED.fullmatch(line)
    name = named["name"] if named else ""
    if name in ("OSError", "IOError") or NOT_OF_THE_CODE.search(name) or _may_pass(line):
        return ""
    return _made_of(name, (named["message"] or "") if named else line, "")


def last_words(output: str) -> str:
    """The line of a process's output that says why it ended; empty when it said nothing.

    That is the exception of the last traceback or the interpreter's fatal error, else the last
    line that is not empty.
    """
    lines = [_RANK.sub("", line).rstrip() for line in output.splitlines() if line.strip()]
    found = lines[-1] if lines else ""
    inside = False
    for line in lines:
        if line.startswith(_FATAL) or (inside and not line.startswith(" ")):
            found = line
            inside = False
        inside = inside or line == _TRACE
    return found[:MAX_LENGTH]


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _may_pass(message: str) -> bool:
    return NOT_OF_THE_WORDS.search(message) is not None


def _made_of(name: str, message: str, where: str) -> str:
    words = _NUMBER.sub("#", _HEX.sub("#", _SPACE.sub(" ", message))).strip()
    head = f"{name}: {words}" if name and words else name or words
    return (head[: MAX_LENGTH // 2] + where)[:MAX_LENGTH]
