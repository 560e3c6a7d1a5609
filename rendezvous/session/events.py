"""What an agent hears from its session, in order."""

from __future__ import annotations

from dataclasses import dataclass

from rendezvous.generation import Generation


@dataclass(frozen=True, slots=True)
class GenerationBegan:
    """A generation is agreed on; whoever is not in it stops.

    Only the first member's `store_endpoint` is filled in: the others' are nobody's business.
    Numbers grow from event to event; one that was superseded on the way may be left out.
    """

    generation: Generation


@dataclass(frozen=True, slots=True)
class LeaveAtBoundary:
    """Leave this generation at the next step boundary, then call `Session.left`.

    `going` are members that will not be in the next one; it comes again when there are more.
    """

    generation: int
    reason: str
    going: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spare:
    """The node waits in reserve. Every generation up to number `generation` is over for it."""

    reason: str
    generation: int = 0


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """An operator wants this node to go within `grace` seconds: call `Session.drain`."""

    reason: str
    grace: float


@dataclass(frozen=True, slots=True)
class DrainDone:
    """The node may go. Unless `handed_over`, nobody runs on with its state."""

    reason: str = ""
    handed_over: bool = True


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The job is over: `status` is completed, failed or stopped. The last event."""

    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The node may not take part. The last event unless `retryable`: then the session goes on
    asking by itself."""

    reason: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Disconnected:
    """No service is heard since `since` (of time.monotonic). The running generation goes on.

    `met`: whether any had taken the node in before.
    """

    since: float
    met: bool = True


@dataclass(frozen=True, slots=True)
class Reconnected:
    """A service took the node back."""


SessionEvent = (
    GenerationBegan
    | LeaveAtBoundary
    | Spare
    | DrainAsked
    | DrainDone
    | JobEnded
    | Refused
    | Disconnected
    | Reconnected
)
