"""What `status` shows of a job: plain values, made on demand."""

from __future__ import annotations

from dataclasses import dataclass

from rendezvous.generation import Generation
from rendezvous.membership import unrecorded
from rendezvous.membership.job import Job, Phase, counted
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


def waiting_for(job: Job) -> str:
    """What the next generation waits for, in words."""
    if job.record is None or job.record.ended is not None:
        return ""
    if job.unrecorded is not None:
        return f"{unrecorded.prospect(job)}: {job.unrecorded.reason}"
    if job.active is None:
        return f"nodes: {len(job.ready)} here, at least {job.spec.min_nodes} needed"
    if job.lost or job.failed:
        if len(job.absent):
            return f"{counted(len(job.absent), 'node')} to come back after a change of leader"
        if len(job.doubted):
            return f"{counted(len(job.doubted), 'node')} with a broken connection"
        return "a socket for the store"
    if job.boundary is not None:
        inside = job.phases[Phase.ENTERING] + job.phases[Phase.RUNNING]
        reasons = "; ".join(job.boundary.reasons)
        return f"{counted(inside, 'node')} to reach a step boundary ({reasons})"
    return ""
