"""What members say about their workers in the generation that stands.

A report about any other generation is late, and changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

from rendezvous.membership.arrivals import unknown
from rendezvous.membership.events import Finished, Left, Listening, Running, WorkerFailed
from rendezvous.membership.job import Job, Node, Phase, counted

Report = Listening | Running | Left | WorkerFailed | Finished


def _speaker(job: Job, event: Report) -> Node | None:
    """The node, if it has a seat in the generation that it speaks of."""
    node = job.nodes.get(event.node)
    if node is None or node.member.incarnation != event.incarnation:
        unknown(job, event.node, event.incarnation)
        return None
    if not node.seated or event.generation != job.standing:
        return None
    return node


def _open(job: Job, node: Node, endpoint: str) -> None:
    if endpoint:
        node.member = replace(node.member, store_endpoint=endpoint)
        node.fresh = True
        job.sort(node.member.node)


def listening(job: Job, event: Listening) -> None:
    node = job.nodes.get(event.node)
    spare = node is not None and not node.seated
    if node is not None and spare and node.member.incarnation == event.incarnation:
        # The socket of a spare that once had a seat may have served since.
        if not job.is_late(event.node, event.generation):
            _open(job, node, event.store_endpoint)
    elif (speaker := _speaker(job, event)) is not None:
        _open(job, speaker, event.store_endpoint)


def running(job: Job, event: Running) -> None:
    node = _speaker(job, event)
    if node is None:
        return
    _open(job, node, event.store_endpoint)
    if node.phase is Phase.ENTERING:
        job.move(event.node, Phase.RUNNING)


def left(job: Job, event: Left) -> None:
    node = _speaker(job, event)
    if node is None:
        return
    _open(job, node, event.store_endpoint)
    if node.phase not in (Phase.ENTERING, Phase.RUNNING):
        return
    node.version, node.stepped = event.version, node.stepped or event.stepped
    job.move(event.node, Phase.LEFT)
    if job.boundary is None and job.deserted is None:
        why = f": {event.cause}" if event.cause else ""
        reason = f"node {event.node} left generation {event.generation} by itself{why}"
        job.deserted = (job.now, event.node, event.version, reason)


def worker_failed(job: Job, event: WorkerFailed) -> None:
    node = _speaker(job, event)
    if node is None:
        return
    _open(job, node, event.store_endpoint)
    if any(other.node == event.node and other.rank == event.rank for other in job.failed):
        return
    if not job.failed:
        job.failed_since = job.now
    job.failed.append(event)
    if node.phase in (Phase.ENTERING, Phase.RUNNING):
        job.move(event.node, Phase.LEFT)


def finished(job: Job, event: Finished) -> None:
    node = _speaker(job, event)
    if node is None:
        _finished_before(job, event)
        return
    if event.status == "failed":
        why = f": {event.reason}" if event.reason else ""
        job.end("failed", f"node {event.node} gave the job up{why}", by="workers")
        return
    node.finish = event.status
    job.move(event.node, Phase.FINISHED)
    if event.whole and job.agreed is None:
        job.agreed = job.now, event.status


def _finished_before(job: Job, event: Finished) -> None:
    """The generation was given up, since too few of its members were heard of. If all ranks of it
    have agreed that they are done, there is nothing left to wait for."""
    last = job.known.generation
    if job.standing or last is None or event.generation != last.number:
        return
    seat = last.group_rank(event.node)
    if not event.whole or seat is None or last.members[seat].incarnation != event.incarnation:
        return
    count = counted(len(last.members), "node")
    job.end(event.status, f"{count} were done before they were given up", by="workers")
