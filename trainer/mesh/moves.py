"""What a change of mesh costs: how much state must travel, and how many steps are at risk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainer.errors import PlanError
from trainer.job import Job
from trainer.mesh.estimate import STATE_BYTES, decoder_stages
from trainer.mesh.plan import MeshPlan, NodeSlots, plan_job, widest

Slot = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLoss:
    """The mesh that would follow. `bytes_to_move` is None where only a factory knows the sizes."""

    mesh: MeshPlan
    bytes_to_move: int | None
    steps_at_risk: int


def without_node(job: Job, nodes: Sequence[NodeSlots], lost: str) -> NodeLoss:
    """What would follow from the loss of one node.

    Raises:
        PlanError: there is no such node, or no mesh fits the others.
    """
    pieces = job.pieces(widest(nodes))
    rest = [node for node in nodes if node.node != lost]
    before = plan_job(job, nodes, replan=job.elastic.replan, pieces=pieces)
    if len(rest) == len(nodes):
        raise PlanError(f"no node is called {lost}; there are {', '.join(n.node for n in nodes)}")
    if not rest:
        raise PlanError(f"without {lost} no node is left")
    after = plan_job(job, rest, replan=job.elastic.replan, pieces=pieces)
    return NodeLoss(
        mesh=after,
        bytes_to_move=bytes_to_move(job, (nodes, before), (rest, after)),
        steps_at_risk=steps_at_risk(job, nodes, before, lost),
    )


def steps_at_risk(job: Job, nodes: Sequence[NodeSlots], mesh: MeshPlan, lost: str) -> int:
    """Steps repeated at most: none with a replica elsewhere, else back to a mirror or a save."""
    places = _slots(nodes)
    alive: set[tuple[int, int, int]] = set()
    gone: set[tuple[int, int, int]] = set()
    for rank in mesh.ranks:
        at = mesh.coordinates(rank)
        assert at is not None
        (gone if places[rank][0] == lost else alive).add((at.pp, at.dp_shard, at.tp))
    if gone <= alive:
        return 0
    if job.elastic.mirror_every and len(nodes) > 1:
        return job.elastic.mirror_every
    return job.checkpoint.every or job.train.steps


def bytes_to_move(
    job: Job,
    before: tuple[Sequence[NodeSlots], MeshPlan],
    after: tuple[Sequence[NodeSlots], MeshPlan],
) -> int | None:
    """State that ranks of the new mesh need and do not hold yet, in bytes."""
    if job.model.factory is not None:
        return None
    layer = job.model.sizes().layer_parameters * STATE_BYTES
    edge = job.model.sizes().embedding_parameters * STATE_BYTES
    held = {slot: (layers, part) for slot, layers, part in _holdings(job, *before)}
    moved = 0.0
    for slot, layers, part in _holdings(job, *after):
        old_layers, old_part = held.get(slot, (frozenset(), None))
        size = _volume(part)
        kept = 0.0 if old_part is None else _volume(_meet(part, old_part))
        for index in layers:
            weight = layer if index >= 0 else edge
            moved += weight * (size - kept if index in old_layers else size)
    return round(moved)


Part = tuple[tuple[float, float], tuple[float, float]]


def _holdings(
    job: Job, nodes: Sequence[NodeSlots], mesh: MeshPlan
) -> Iterator[tuple[Slot, frozenset[int], Part]]:
    """Each rank's layers (-1 the embedding, -2 the head) and its share of them, tp by shard."""
    places = _slots(nodes)
    virtual = job.parallel.virtual_stages if mesh.pp > 1 else 1
    count = mesh.pp * virtual
    stages = decoder_stages(job.model.sizes(), count)
    folded = job.parallel.schedule == "zbv" and mesh.pp > 1
    for rank in mesh.ranks:
        at = mesh.coordinates(rank)
        assert at is not None
        indices = [at.pp, count - 1 - at.pp] if folded else range(at.pp, count, mesh.pp)
        layers = {layer for index in indices for layer in stages[index]}
        layers |= {-1} if 0 in indices else set()
        layers |= {-2} if count - 1 in indices and not job.model.sizes().tied else set()
        cut = (at.tp / mesh.tp, (at.tp + 1) / mesh.tp)
        shard = (at.dp_shard / mesh.dp_shard, (at.dp_shard + 1) / mesh.dp_shard)
        yield places[rank], frozenset(layers), (cut, shard)


def _slots(nodes: Sequence[NodeSlots]) -> list[Slot]:
    return [(node.node, slot) for node in nodes for slot in range(node.slots)]


def _volume(part: Part) -> float:
    return max(0.0, part[0][1] - part[0][0]) * max(0.0, part[1][1] - part[1][0])


def _meet(a: Part, b: Part) -> Part:
    first, second = (
        (max(x[0], y[0]), max(min(x[1], y[1]), max(x[0], y[0]))) for x, y in zip(a, b, strict=True)
    )
    return first, second
