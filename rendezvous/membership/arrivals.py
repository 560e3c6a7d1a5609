"""Nodes come, come back, and go."""

from __future__ import annotations

from dataclasses import fields

from rendezvous.bounds import MAX_CLAIM
from rendezvous.generation import Member
from rendezvous.membership import unrecorded
from rendezvous.membership.effects import EndJob
from rendezvous.membership.events import Beat, Event, Join, Leave, NewLeader, StreamLost
from rendezvous.membership.job import Job, Phase, counted
from rendezvous.membership.patience import TINY
from rendezvous.membership.record import Record
from rendezvous.membership.spec import JobSpec


def restore(job: Job, event: NewLeader) -> Job:
    """A new leader knows the record, and misses nobody for a while."""
    fresh = Job(job.secrets, record=event.record, clock=job.clock)
    record = event.record
    now = fresh.now
    fresh.began = fresh.grown = fresh.forming = now
    if record is None:
        return fresh
    if record.generation is not None:
        fresh.first, fresh.started = False, True
        fresh.remember_seats()
        fresh.lives = {m.node: m.incarnation for m in record.generation.members}
    if record.ended is not None or fresh.active is None:
        return fresh
    for member in fresh.active.members:
        node = fresh.add(member, stream=0)
        node.stateful = True
        drain = record.drains.get(member.node)
        if drain is not None and drain.incarnation == member.incarnation:
            node.draining, node.drain_ends = True, now + drain.grace
        fresh.absent.hear(member.node, now)
        fresh.move(member.node, Phase.ENTERING)
    return fresh


def join(job: Job, event: Join) -> None:
    claimed = min(max(event.generation, event.earlier), MAX_CLAIM)
    job.heard_number = max(job.heard_number, claimed)
    if event.slots < 1:
        job.refuse(event.node, event.incarnation, "a node needs at least 1 slot", retryable=False)
        return
    if job.record is None:
        job.record = Record(spec=event.spec)
        job.forming = job.grown = job.now
    unrecorded.overtake(job, event)
    if job.known.ended is not None and not _reopen(job, event):
        ended = job.known.ended
        job.tell(EndJob(status=ended.status, reason=ended.reason, to=(event.node,)))
        return
    if event.spec != job.spec:
        reason = f"node {event.node} asks for another job: {_difference(job.spec, event.spec)}"
        job.refuse(event.node, event.incarnation, reason, retryable=False)
        return
    if event.node in job.known.set_aside and not _in_unrecorded(job, event.generation):
        reason = job.known.set_aside[event.node]
        job.refuse(event.node, event.incarnation, reason, retryable=False)
        return
    newest = job.lives.get(event.node, event.incarnation)
    if event.incarnation < newest:
        reason = f"node {event.node} has joined as a newer process (incarnation {newest})"
        job.refuse(event.node, event.incarnation, reason, retryable=False)
        return
    joined_on = job.streams.get(event.node)
    this = (event.incarnation, event.stream)
    if joined_on == this:
        # A connection joins once. Said again, it may tell of a socket that has served since.
        unknown(job, event.node, event.incarnation)
        return
    if joined_on is not None and this < joined_on:
        reason = f"node {event.node} has joined on a newer connection"
        job.refuse(event.node, event.incarnation, reason, retryable=True)
        return
    job.streams[event.node] = this
    job.heard(event.node, event.incarnation, event.generation)
    present = job.nodes.get(event.node)
    if present is not None and event.incarnation > present.member.incarnation:
        _supersede(job, event)
        present = None
    if present is None:
        _take_in(job, event)
    else:
        _come_back(job, event)


def _reopen(job: Job, event: Join) -> bool:
    """A stopped job goes on when a process joins that has seen nothing of it."""
    ended = job.known.ended
    unseen = event.generation == 0 and event.incarnation > job.lives.get(event.node, -1)
    if ended is None or ended.status != "stopped" or not unseen:
        return False
    generation = job.known.generation
    job.record = Record(spec=event.spec, generation=generation)
    job.first, job.started = True, False
    job.forming = job.grown = job.now
    job.note(event.node, f"node {event.node} resumes the job, which had stopped: {ended.reason}")
    return True


def _in_unrecorded(job: Job, generation: int) -> bool:
    return job.unrecorded is not None and generation == job.unrecorded.number


def _supersede(job: Job, event: Join) -> None:
    old = job.nodes[event.node].member.incarnation
    reason = f"node {event.node} came back as a new process (incarnation {event.incarnation})"
    job.refuse(event.node, old, reason, retryable=False)
    remove(job, event.node, reason)


def _take_in(job: Job, event: Join) -> None:
    member = Member(
        node=event.node,
        incarnation=event.incarnation,
        slots=event.slots,
        host=event.host,
        store_endpoint=event.store_endpoint,
        labels=event.labels,
    )
    node = job.add(member, stream=event.stream)
    node.heard = event.generation
    node.fresh = bool(event.store_endpoint) and job.missed(event.node) is None
    drain = job.known.drains.get(event.node)
    if drain is not None and drain.incarnation == event.incarnation:
        node.draining, node.drain_ends = True, job.now + drain.grace
    elif drain is not None:
        job.write(drains={n: d for n, d in job.known.drains.items() if n != event.node})
    job.hear(event.node)
    _show(job, event.node, event.generation)
    if _in_unrecorded(job, event.generation):
        unrecorded.place(job, event.node, event.generation)
        return
    job.keep_spare(event.node, _prospect(job, event.node))


def _show(job: Job, name: str, generation: int) -> None:
    """A node that was in some generation learns of it, so that it opens another socket, and of the
    one that has taken its place."""
    active, missed = job.active, job.missed(name)
    if missed is not None and missed is not active:
        job.publish(missed, (name,))
    involved = generation or missed or job.nodes[name].seated
    if active is not None and generation < active.number and involved:
        job.publish(active, (name,))


def _prospect(job: Job, name: str) -> str:
    """What a node waits for that has just come."""
    spec, here = job.spec, len(job.ready)
    if job.nodes[name].draining:
        return f"node {name} drains"
    if job.unrecorded is not None:
        return unrecorded.prospect(job)
    if job.active is None:
        return f"waiting for nodes: {here} here, at least {spec.min_nodes} needed"
    if job.fitting > len(job.active.members):
        wait = max(0.0, job.grown + spec.grow_interval - job.now)
        return f"node {name} enters with the next generation, in {wait:.1f} s at the earliest"
    return f"node {name} is a spare: the job has its {counted(len(job.active.members), 'node')}"


def _come_back(job: Job, event: Join) -> None:
    node = job.nodes[event.node]
    if job.unrecorded is not None:
        unrecorded.place(job, event.node, event.generation)
    endpoint = node.member.store_endpoint
    if event.store_endpoint and (not node.seated or event.generation >= job.number):
        endpoint, node.fresh = event.store_endpoint, job.missed(event.node) is None
    node.member = Member(
        node=event.node,
        incarnation=event.incarnation,
        slots=event.slots,
        host=event.host,
        store_endpoint=endpoint,
        labels=event.labels,
    )
    node.stream = event.stream
    _tell_what_was_missed(job, event.node, event.generation)


def _tell_what_was_missed(job: Job, name: str, generation: int) -> None:
    """The node is back on a new stream, having heard of `generation`."""
    node = job.nodes[name]
    job.hear(name)
    _show(job, name, generation)
    if not node.seated:
        job.keep_spare(name, _prospect(job, name))
    elif job.boundary is not None and node.phase in (Phase.ENTERING, Phase.RUNNING):
        job.ask_boundary((name,), job.boundary)
    if node.drained:
        job.drain_done(name, f"node {name} was drained", handed_over=node.handed_over)
    elif node.draining:
        job.ask_drain(name)


def unknown(job: Job, node: str, incarnation: int) -> None:
    """A node speaks that is not known, or no more: it must join again, and learn what it missed."""
    if job.record is None or job.known.ended is not None:
        return
    newest = job.lives.get(node, incarnation)
    if incarnation < newest:
        reason = f"node {node} has joined as a newer process (incarnation {newest})"
        job.refuse(node, incarnation, reason, retryable=False)
    elif node not in job.nodes:
        reason = f"node {node} is not known here, or was lost: join again"
        job.refuse(node, incarnation, reason, retryable=True)


def beat(job: Job, event: Beat) -> None:
    node = job.nodes.get(event.node)
    if node is None or node.member.incarnation != event.incarnation:
        unknown(job, event.node, event.incarnation)
    elif event.node in job.beating:
        job.beating.hear(event.node, job.now)


def hear(job: Job, event: Event) -> None:
    """Whatever a node says proves that it is alive, and of what it has heard."""
    name, incarnation = getattr(event, "node", ""), getattr(event, "incarnation", None)
    node = job.nodes.get(name)
    if node is None or node.member.incarnation != incarnation:
        return
    job.heard(name, node.member.incarnation, getattr(event, "generation", 0))
    if name in job.beating:
        job.beating.hear(name, job.now)


def stream_lost(job: Job, event: StreamLost) -> None:
    node = job.nodes.get(event.node)
    if node is None or node.member.incarnation != event.incarnation:
        return
    if event.stream != node.stream or event.node not in job.beating:
        return
    if node.drained and not node.seated:
        remove(job, event.node, f"node {event.node} has gone, as it was drained")
    else:
        job.suspect(event.node)


def leave(job: Job, event: Leave) -> None:
    node = job.nodes.get(event.node)
    if node is None or node.member.incarnation != event.incarnation:
        return
    why = f": {event.reason}" if event.reason else ""
    remove(job, event.node, f"node {event.node} left{why}")


def miss(job: Job) -> None:
    """Nodes that were silent for too long are lost."""
    if job.record is None or job.now + TINY < job.clock.silence:
        return
    spec = job.spec
    for name in job.beating.overdue(job.now, spec.beat_timeout):
        silent = job.now - (job.beating.since(name) or 0.0)
        reason = f"node {name} was lost: no beat for {silent:.1f} s"
        incarnation = job.nodes[name].member.incarnation
        remove(job, name, reason)
        # Its stream may still stand: when it wakes up, it learns that it is out.
        job.refuse(name, incarnation, reason, retryable=True)
    patience = job.doubt
    for name in job.doubted.overdue(job.now, patience):
        reason = f"connection broken, and not back within {patience:.1f} s"
        remove(job, name, f"node {name} was lost: {reason}")
    for name in job.absent.overdue(job.now, spec.leader_grace):
        reason = f"not back within {spec.leader_grace:.1f} s of the change of leader"
        remove(job, name, f"node {name} was lost: {reason}")


def remove(job: Job, name: str, reason: str) -> None:
    node = job.drop(name)
    if node.seated:
        job.lost.append(reason)
    else:
        job.note(name, reason)
    drain = job.known.drains.get(name)
    if drain is not None and drain.incarnation == node.member.incarnation:
        job.write(drains={n: d for n, d in job.known.drains.items() if n != name})


def _difference(ours: JobSpec, theirs: JobSpec) -> str:
    return ", ".join(
        f"{field.name} is {getattr(ours, field.name)} here and {getattr(theirs, field.name)} there"
        for field in fields(JobSpec)
        if getattr(ours, field.name) != getattr(theirs, field.name)
    )
