"""What became of the time in which a run was up: three parts, which make up all of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

STANDSTILL_SECONDS = 1.0
"""From so much on, people are told that a run stood still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Seconds of `wall`: `good` went into steps that count, in `stood_still` nothing went forward
    though something could have, and `other` is what is left: starts, changes of membership, waiting
    for nodes, saves, steps that were done in vain."""

    wall: float
    good: float
    stood_still: float
    other: float

    @classmethod
    def of(cls, wall: float, *, counted: float, inside: float, between: float) -> Self:
        """Seconds all: `counted` steps took so many, in `inside` of which they stood still, as
        did the rest of the time in `between`.

        Clocks that disagree make none of the parts negative, and the sum no other than `wall`.
        """
        wall = max(0.0, wall)
        still = min(wall, inside + between)
        good = min(max(0.0, counted - inside), wall - still)
        return cls(wall=wall, good=good, stood_still=still, other=max(0.0, wall - still - good))

    @property
    def goodput(self) -> float:
        """The share that was good, 0 to 1."""
        return self.good / self.wall if self.wall > 0 else 0.0

    def __str__(self) -> str:
        return (
            f"{self.wall:.1f} s up: {self.good:.1f} s good, {self.stood_still:.1f} s stood still, "
            f"{self.other:.1f} s other"
        )
