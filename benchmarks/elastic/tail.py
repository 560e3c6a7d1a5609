"""A file of JSON lines that grows, read a little at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Tail:
    """`lines` are the whole lines so far; a look costs what has come since the last one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        self._lines: list[dict[str, Any]] = []

    def lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._read)
            whole, newline, _part = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        self._lines += [json.loads(line) for line in whole.splitlines()]
        return self._lines
