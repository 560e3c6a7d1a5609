"""What the service must do after an event, in the given order.

A `Persist` always comes first. Nothing after it may be done before it is in the store; if it
fails because the leader was deposed, nothing after it may be done at all. Sending is best effort:
whatever a node misses it is told again when it comes back.
"""

from __future__ import annotations

from dataclasses import dataclass

from rendezvous.generation import Generation
from rendezvous.membership.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Persist:
    """Write the record, fenced by the leader's token."""

    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Tell the nodes in `to` that this generation has begun.

    For a new generation `to` is its members, and the nodes that were in the last one and are not
    in this one (so that they stop). To one node alone it is a repetition of what it has missed.
    """

    generation: Generation
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskBoundary:
    """Ask the nodes to leave `generation` at the next step boundary and report it."""

    generation: int
    reason: str
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepSpare:
    """Tell the node that it waits, and for what."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Tell this life of the node that it cannot take part. `retryable`: it may join again."""

    node: str
    incarnation: int
    reason: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AskDrain:
    """Pass an operator's wish on to the node: it has `grace` seconds to go."""

    node: str
    grace: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainDone:
    """Tell the node that the others have its state: it may go now."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndJob:
    """Tell the nodes that the job is over: completed, failed, or stopped (it can be resumed)."""

    status: str
    reason: str
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Log a decision that nobody needs to be told."""

    node: str
    reason: str


Effect = Persist | Publish | AskBoundary | KeepSpare | Refuse | AskDrain | DrainDone | EndJob | Note
