"""What can happen to a job's membership.

An event that a node sends carries the node's incarnation: what an older life of the node still
sends is ignored. Events may come late, twice and out of order.

The store of a generation is served from the node that comes first in it, on a socket that must
already listen when the generation is published and was never used before. So an agent opens a
socket ahead: it names one in `Join`, and another in a `Listening` as soon as a generation has
begun (that is, the endpoint named last was used up), also when it is the same one again.
`Running`, `Left` and `WorkerFailed` may carry it as well; an empty `store_endpoint` means "no
news". The node that would come first is waited for, as long as it beats, for `boundary_timeout`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rendezvous.membership.spec import JobSpec

if TYPE_CHECKING:
    from rendezvous.membership.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A node asks to take part; sent again on each new stream, it resumes if nothing changed.

    `generation` is the last one that this life of the node has heard of (0: none): if there is a
    newer one, it is told. `earlier` is the last one that it knows from an earlier start of the
    job. `stream` is the number the service gave the connection; it grows with each connection.
    """

    node: str
    incarnation: int
    slots: int
    host: str
    store_endpoint: str
    spec: JobSpec
    labels: Mapping[str, str] = field(default_factory=dict)
    generation: int = 0
    earlier: int = 0
    stream: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A node is alive. Never answered, never stored."""

    node: str
    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLost:
    """The connection `stream` of a node broke. Ignored if the node has a newer one."""

    node: str
    incarnation: int
    stream: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """The node has opened the socket for a generation after `generation`."""

    node: str
    incarnation: int
    generation: int
    store_endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """All workers of the node have entered `generation` and have their state."""

    node: str
    incarnation: int
    generation: int
    store_endpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The node's workers are out of `generation` at `version` and can enter the next one.

    `version` counts optimizer steps. `cause` says why when nobody had asked them to leave.
    `stepped`: a step was done on the node since its agent began.
    """

    node: str
    incarnation: int
    generation: int
    version: int
    store_endpoint: str = ""
    cause: str = ""
    stepped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFailed:
    """A worker of the node died or gave up at `step`; the agent has another for its place.

    `rank` is global. Exactly one of `exit_code` and `signal` says how a process ended; both are
    None when it was the agent that replaced it (`cause` says why). `step` is -1 outside of steps.
    `error` is the same for ranks that fail alike; empty after the first step done on the node, and
    where it may pass. `whole`: every rank of the node failed with it.
    """

    node: str
    incarnation: int
    generation: int
    rank: int
    exit_code: int | None = None
    signal: int | None = None
    step: int = -1
    cause: str = ""
    store_endpoint: str = ""
    error: str = ""
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainAsked:
    """The node must be gone in `grace` seconds.

    The node itself says so with its incarnation; `incarnation=None` is an operator's wish, which
    is passed on to the node.
    """

    node: str
    grace: float
    reason: str
    incarnation: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The node's workers are done with the job: `status` is completed, stopped or failed.

    `whole`: all ranks of the generation have agreed on it, those of the other nodes too.
    """

    node: str
    incarnation: int
    generation: int
    status: str
    reason: str = ""
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """The node goes, now, and has nothing to hand over."""

    node: str
    incarnation: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleAsked:
    """An operator wants `nodes` nodes, within the job's bounds."""

    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAsked:
    """An operator ends the job; it can be resumed."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Nothing but time has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLeader:
    """This service now leads; `record` is what the store holds of the job, None if nothing."""

    record: Record | None


Event = (
    Join
    | Beat
    | StreamLost
    | Listening
    | Running
    | Left
    | WorkerFailed
    | DrainAsked
    | Finished
    | Leave
    | ScaleAsked
    | StopAsked
    | Tick
    | NewLeader
)
