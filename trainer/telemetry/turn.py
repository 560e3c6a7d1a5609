"""Whose turn it is to write a file that has one writer at a time.

An agent that was stopped for long enough to be given up has reports of its workers left to read
when it goes on, and another agent has its place already.
"""

from __future__ import annotations

from pathlib import Path

from trainer.telemetry.files import replace


class Turn:
    """The last one to take it has it; `name` has to be like nobody else's."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name

    def take(self) -> None:
        """From now on it is ours, until another takes it. Raises OSError."""
        replace(self._path, self._name)

    @property
    def ours(self) -> bool:
        try:
            return self._path.read_text(encoding="utf-8") == self._name
        except FileNotFoundError:
            return False
