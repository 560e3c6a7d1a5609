"""What `status` shows of a job: plain values, made on demand."""

from __future__ import annotations

from dataclasses import dataclass

from rendezvous.generation import Generation
from rendezvous.membership.record import Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node. `phase` is member phases entering, running, left, finished, or else spare.

    `silent` is how many seconds ago it was last heard of.
    """

    node: str
    incarnation: int
    host: str
    slots: int
    phase: str
    connected: bool
    draining: bool
    silent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """One job. `waiting` says what the next generation waits for, empty if for nothing.

    `age` is how many seconds ago the generation began, as far as this leader knows.
    """

    generation: Generation | None
    active: bool
    age: float
    restarts: int
    target: int | None
    waiting: str
    nodes: tuple[NodeView, ...]
    set_aside: dict[str, str]
    ended: Ended | None
