"""Where one torchrun agent stands, by what its session has told. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rendezvous.generation import Generation
from rendezvous.session import (
    Disconnected,
    DrainDone,
    GenerationBegan,
    JobEnded,
    LeaveAtBoundary,
    Reconnected,
    Refused,
    SessionEvent,
    Spare,
)


class Departure(Enum):
    """Why torchrun asks for another generation, as the service is to be told."""

    ASKED = "it was asked to leave"
    FAILED = "torchrun restarts its workers"


@dataclass(slots=True)
class Progress:
    """`entered` is the number of the generation that torchrun was given last; 0 before the first.

    `closed` says why nothing will ever come any more, `drained` that others have taken over.
    """

    node: str
    entered: int = 0
    generation: Generation | None = None
    connected: bool = False
    closed: str = ""
    completed: bool = False
    drained: str = ""
    refusal: str = ""
    _asked: str = ""
    _disbanded: str = ""
    _departed: int = 0

    def hear(self, event: SessionEvent) -> None:
        match event:
            case GenerationBegan(generation):
                self.connected = True
                self.generation = generation
                self._asked = self._disbanded = ""
            case LeaveAtBoundary(number, reason):
                if self.generation is not None and number == self.generation.number:
                    self._asked = reason
            case Spare(reason):
                self.connected = True
                if self.rank is not None:
                    self._disbanded = reason
            case JobEnded(status, reason):
                self.closed = f"the job is {status}: {reason}"
                self.completed = status == "completed"
            case Refused(reason, retryable):
                self.refusal = reason
                if not retryable:
                    self.closed = reason
            case DrainDone(reason):
                self.drained = reason or "drained"
            case Disconnected():
                self.connected = False
            case Reconnected():
                self.connected = True
                self.refusal = ""

    @property
    def rank(self) -> int | None:
        """In the last generation that was told of."""
        return self.generation.group_rank(self.node) if self.generation else None

    def enter(self) -> Generation | None:
        """The generation to enter now, if there is one."""
        generation = self.generation
        if generation is None or self.rank is None or self._asked or self._disbanded:
            return None
        if generation.number <= max(self.entered, self._departed):
            return None
        self.entered = generation.number
        return generation

    def depart(self) -> tuple[int, Departure] | None:
        """What to report before another generation can come; once for each."""
        generation = self.generation
        if generation is None or self.rank is None or self._disbanded:
            return None
        number = generation.number
        if number == self._departed or not (self._asked or number == self.entered):
            return None
        self._departed = number
        return number, Departure.ASKED if self._asked else Departure.FAILED

    def over(self) -> str:
        """Why the workers are to be restarted in another generation; empty while they may go on."""
        if self.entered == 0:
            return ""
        if self.closed:
            # As with torchrun's own backends, an end in order lets the others finish.
            return "" if self.completed else self.closed
        if self.generation is not None and self.generation.number > self.entered:
            return f"generation {self.generation.number} began: {self.generation.reason}"
        return self._asked or self._disbanded
