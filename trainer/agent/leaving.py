"""How an agent's part ends: with notice, because the job was stopped, or because it is over. Pure.

All times are of the agent's clock, in seconds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from trainer.agent import actions as act
from trainer.agent import facts
from trainer.agent.process import SIGNAL_EXIT_BASE, Exit

EXIT_COMPLETED, EXIT_FAILED, EXIT_USAGE, EXIT_DRAINED = 0, 1, 2, 75
SAME_NOTICE_SECONDS = 1.0
"""A terminal and the wrapper that passes its signal on are apart by milliseconds, by tenths of a
second on a busy machine; a person who can't wait any longer, by more."""

SAME_MOMENT_SECONDS = 0.5
"""Within so long a signal to every process of a run has reached all of them."""


class Urgency(Enum):
    """What a signal that means `leave` asks for."""

    IN_ORDER = auto()
    NOTHING_MORE = auto()
    AT_ONCE = auto()


@dataclass(slots=True)
class Signals:
    """The signals that told this agent to leave, whichever they were."""

    first: float | None = None
    """When the first of them came."""

    def hear(self, now: float) -> Urgency:
        """One comes. The same notice often comes twice: only a later one is a second notice."""
        if self.first is None:
            self.first = now
            return Urgency.IN_ORDER
        again = now - self.first < SAME_NOTICE_SECONDS
        return Urgency.NOTHING_MORE if again else Urgency.AT_ONCE


def how_to_end(status: str, *, drains: bool, asked_for: bool) -> tuple[int, str]:
    """The exit code, and the word for it, where the whole job has ended as `status`.

    `drains`: the node was on its way out. `asked_for`: the job itself wanted to stop here.
    """
    if status == "failed":
        return EXIT_FAILED, status
    if status == "completed":
        return EXIT_COMPLETED, status  # Also for who was told to leave: there is no more to do.
    if drains:
        return EXIT_DRAINED, "drained"
    if status == "stopped" and not asked_for:
        return EXIT_DRAINED, status
    return EXIT_COMPLETED, status


def ends_of(how: Exit, signals: Collection[int]) -> bool:
    """Whether a script's process ended of one of these, or says so as a shell does."""
    number = how.signal or (how.code or 0) - SIGNAL_EXIT_BASE
    return number in signals


@dataclass(slots=True)
class Notice:
    """A drain on its way. `ends`: when its grace is over; None where there is no state to save."""

    asked: facts.DrainAsked
    ends: float | None = None
    done: facts.DrainDone | None = None

    def deadline(self, *, forsaken: bool) -> float | None:
        """When it has to go on by force.

        `forsaken`: nobody takes the state over, so that half of the grace is for saving it.
        """
        if self.ends is None:
            return None
        return self.ends - self.asked.grace / 2 if forsaken else self.ends


@dataclass(frozen=True, slots=True)
class Stop:
    """The job was stopped: how to end once the workers are out, at `deadline` at the latest."""

    code: int
    status: str
    reason: str
    deadline: float


@dataclass(slots=True)
class Ending:
    """The workers are told to end; at `deadline`, which is `patience` seconds later, they are
    killed. What is staged may be saved until `save_until`."""

    code: int
    status: str
    reason: str
    deadline: float
    patience: float
    whole: bool
    save_until: float = 0.0
    over: bool = False

    def depart(self, now: float) -> act.Depart:
        """Every process has ended."""
        self.over = True
        seconds = max(0.0, self.save_until - now)
        return act.Depart(self.code, self.status, self.reason, self.whole, seconds)
