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

    For a new generation `to` is its members, and those who were in the last one and are not in
    this one: they stop, and can hand their state over to the members. To one node alone it is a
    repetition of what it has missed.
    """

    generation: Generation
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskBoundary:
    """Ask the nodes to leave `generation` at the next step boundary and report it.

    `going` are members that the next generation will be without: their state has to be with
    others before they report.
    """

    generation: int
    reason: str
    to: tuple[str, ...]
    going: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepSpare:
    """Tell the node that it waits, and for what.

    Every generation up to number `generation` is over for it: if its workers are in one, they
    must be interrupted.
    """

    node: str
    generation: int
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
    """Tell the node that it may go now.

    `handed_over`: the others run on with its state; if not, nobody could take it over, and the
    node should save what it has, where it can.
    """

    node: str
    handed_over: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndJob:
    """Tell the nodes that the job is over: completed, failed or stopped.

    A stopped job can be resumed. Nodes that still train when they hear of it finish the step,
    save a checkpoint together and go.
    """

    status: str
    reason: str
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Log a decision that nobody needs to be told."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warn:
    """Log what an operator should look at."""

    reason: str


Effect = (
    Persist
    | Publish
    | AskBoundary
    | KeepSpare
    | Refuse
    | AskDrain
    | DrainDone
    | EndJob
    | Note
    | Warn
)
