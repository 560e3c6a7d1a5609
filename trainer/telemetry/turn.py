"""Whose turn it is to write a file that has one writer at a time.

An agent that was stopped for long enough to be given up has reports of its workers left to read
when it goes on, and another agent has its place already. And who hears no rendezvous any more can't
know whether the first node does: it writes in its place, until that one shows that it is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.telemetry.files import replace


@dataclass(frozen=True, slots=True)
class Claim:
    """Who writes, and why: as the first node of `generation`, or because it waits after that one.

    `name` has to be like nobody else's.
    """

    name: str
    generation: int = -1
    waits: bool = False

    def outranks(self, other: Claim) -> bool:
        """Whether what this one knows is newer: a generation that goes on stands above who waits
        after it."""
        return (self.generation, not self.waits) > (other.generation, not other.waits)

    def __str__(self) -> str:
        return f"{self.generation} {'waits' if self.waits else 'first'} {self.name}"

    @classmethod
    def read(cls, text: str) -> Claim:
        """What `str` has made; of anything else it is nobody's who knows of a generation."""
        number, _, rest = text.partition(" ")
        how, _, name = rest.partition(" ")
        if not (number.isascii() and number.isdigit()) or how not in ("first", "waits"):
            return cls(text)
        return cls(name, int(number), how == "waits")


class Turn:
    """The last one to take it has it, unless another knows of a later generation."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._claim = Claim(name)

    def take(self, generation: int, *, waits: bool = False, anyway: bool = False) -> bool:
        """Whether it is ours from now on, until another takes it. Raises OSError.

        `anyway`: also where another has had a later generation, of which nobody knows any more.
        """
        self._claim = Claim(self._claim.name, generation, waits)
        holder = self._holder()
        if not anyway and holder is not None and holder.generation > generation:
            return False
        replace(self._path, str(self._claim))
        return True

    def regain(self) -> bool:
        """Take it back from who knows less than we: True where it is ours again. Raises OSError."""
        holder = self._holder()
        if holder is None or not self._claim.outranks(holder):
            return False
        replace(self._path, str(self._claim))
        return True

    @property
    def ours(self) -> bool:
        holder = self._holder()
        return holder is not None and holder.name == self._claim.name

    def _holder(self) -> Claim | None:
        try:
            return Claim.read(self._path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return None
