"""What operators and platforms want: nodes drained, the job larger, smaller or stopped."""

from __future__ import annotations

from rendezvous.membership.events import DrainAsked, ScaleAsked, StopAsked
from rendezvous.membership.job import Job
from rendezvous.membership.record import Drain


def drain_asked(job: Job, event: DrainAsked) -> None:
    node = job.nodes.get(event.node)
    if node is None:
        if event.incarnation is None:
            job.note(event.node, f"node {event.node} can't be drained: it is not here")
        return
    if event.incarnation not in (None, node.member.incarnation):
        return
    if node.drained:
        told = f"node {event.node} was drained"
        job.drain_done(event.node, told, handed_over=node.handed_over)
        return
    ends = job.now + max(0.0, event.grace)
    if node.draining:
        # Asked again: it can only become more urgent.
        node.drain_ends = min(node.drain_ends, ends)
    else:
        node.draining, node.drain_ends = True, ends
        drain = Drain(incarnation=node.member.incarnation, grace=event.grace, reason=event.reason)
        job.write(drains={**job.known.drains, event.node: drain})
        job.sort(event.node)
        job.note(event.node, f"node {event.node} drains: {event.reason}")
    if event.incarnation is None:
        job.ask_drain(event.node)


def scale_asked(job: Job, event: ScaleAsked) -> None:
    spec = job.spec
    if event.nodes < 1 or spec.fitting(event.nodes) != event.nodes:
        multiple = f", a multiple of {spec.node_multiple}" if spec.node_multiple > 1 else ""
        bounds = f"{spec.min_nodes} to {spec.max_nodes}{multiple}"
        job.note("", f"the job can't have {event.nodes} nodes: it needs {bounds}")
    elif event.nodes != job.known.target:
        job.write(target=event.nodes)
        job.note("", f"the job was asked to have {event.nodes} nodes")


def stop_asked(job: Job, event: StopAsked) -> None:
    job.end("stopped", event.reason, by="operator")
