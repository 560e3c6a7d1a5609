"""Whether all ranks of this node fail alike before any step was done here. Pure.

The first failure is held back for a moment, and the others are left alone, so that they come to
their own error: an interrupt, or a report that begins the next generation, would hide it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from trainer.agent import actions as act

SETTLE_SECONDS = 2.0
"""Ranks that fail at one place come to it within a second or so, on a busy machine too."""


@dataclass(slots=True)
class Alike:
    """What the ranks of one generation said of how they failed."""

    stepped: bool = False
    """Whether a step was ever done on this node; from then on nothing is held back."""
    held: act.TellFailed | None = None
    """The first failure, while it is not told yet."""
    why: str = ""
    """For the others, when they are interrupted after all."""
    deadline: float | None = None
    """When it is told at the latest."""
    _errors: dict[int, str] = field(default_factory=dict)
    """By local rank, the fingerprint of its error; empty where it may pass."""

    def begin(self, told: act.TellFailed, local_rank: int, why: str, now: float) -> None:
        """The first failure of a generation."""
        self.held, self.why = told, why
        self.deadline = now + SETTLE_SECONDS
        self._errors = {local_rank: told.error}

    def hear(self, local_rank: int, error: str) -> None:
        """Another one of the same generation."""
        self._errors[local_rank] = error

    def release(self, ranks: int) -> act.TellFailed:
        """What to tell; `ranks` of this node had a part in the mesh."""
        assert self.held is not None
        told = self.held
        same = bool(told.error) and set(self._errors.values()) == {told.error}
        self.drop()
        return replace(told, whole=same and len(self._errors) == ranks)

    def drop(self) -> None:
        """Nobody needs to know any more."""
        self.held = self.deadline = None
