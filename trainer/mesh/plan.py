"""From what the job asks for and the slots there are to a mesh, or the reason why there is none.

Ranks are numbered node by node. A tensor group is `tensor` consecutive ranks of one node (or of
several, if the job allows it); groups fill the mesh in rank order, pipeline outermost; ranks
that don't fit are spares.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from trainer.errors import PlanError
from trainer.job import Job, ParallelSection
from trainer.job.checks import microbatch_problem

Replan = Literal["none", "data", "pipeline", "tensor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSlots:
    """A node and how many ranks it can run."""

    node: str
    slots: int


class Coordinates(NamedTuple):
    """A rank's place in each dimension, outermost first."""

    pp: int
    dp_replicate: int
    dp_shard: int
    tp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshPlan:
    """The size of each dimension, and which global ranks, ascending, fill it in row-major order."""

    pp: int
    dp_replicate: int
    dp_shard: int
    tp: int
    ranks: tuple[int, ...]
    spares: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of ranks in the mesh."""
        return self.pp * self.dp_replicate * self.dp_shard * self.tp

    @property
    def dp(self) -> int:
        """Number of data-parallel ranks."""
        return self.dp_replicate * self.dp_shard

    def coordinates(self, rank: int) -> Coordinates | None:
        """The place of a global rank, or None for a spare."""
        position = bisect_left(self.ranks, rank)
        if position == len(self.ranks) or self.ranks[position] != rank:
            return None
        rest, tp = divmod(position, self.tp)
        rest, shard = divmod(rest, self.dp_shard)
        pp, replicate = divmod(rest, self.dp_replicate)
        return Coordinates(pp, replicate, shard, tp)

    def describe(self) -> str:
        """The mesh in words, such as `dp 2 × pp 2`, without dimensions of size 1."""
        data = f"dp {self.dp_replicate}×{self.dp_shard}" if self.dp_replicate > 1 else ""
        parts = [data or f"dp {self.dp}"] if self.dp > 1 else []
        parts += [f"tp {self.tp}"] if self.tp > 1 else []
        parts += [f"pp {self.pp}"] if self.pp > 1 else []
        return " × ".join(parts) or "one rank"


def plan_job(
    job: Job, nodes: Sequence[NodeSlots], *, replan: Replan = "none", pieces: int | None = None
) -> MeshPlan:
    """The job's mesh over these nodes; `replan=job.elastic.replan` once the job has begun.

    Raises:
        PlanError: no mesh fits.
    """
    return plan(
        job.parallel,
        nodes,
        pieces=pieces if pieces is not None else job.pieces(widest(nodes)),
        microbatches=job.train.microbatches,
        replan=replan,
    )


def plan(
    parallel: ParallelSection,
    nodes: Sequence[NodeSlots],
    *,
    pieces: int | None = None,
    microbatches: int | None = None,
    replan: Replan = "none",
) -> MeshPlan:
    """Lay the mesh over the nodes.

    `pieces` bounds the data-parallel size, as a rank without a piece has no work. `replan` is
    the farthest dimension that may come out smaller than asked: none while the job has not
    begun; then data first, and pipeline and tensor only where not one whole group fits.

    Raises:
        PlanError: no mesh fits; names the constraint and the nearest mesh that would.
    """
    for tensor, pipeline in _shapes(parallel, microbatches, replan):
        found = _fit(parallel, nodes, tensor, pipeline, pieces, replan)
        if found is not None:
            return found
    raise PlanError(_refusal(parallel, nodes, pieces, microbatches, replan))


def widest(nodes: Sequence[NodeSlots]) -> int:
    """The largest number of ranks that a node has."""
    return max((node.slots for node in nodes), default=0)


def tensor_groups(
    nodes: Sequence[NodeSlots], tensor: int, *, across_nodes: bool
) -> list[tuple[int, ...]]:
    """Runs of `tensor` consecutive global ranks, none across two nodes unless allowed."""
    if across_nodes:
        world = sum(node.slots for node in nodes)
        return [tuple(range(at, at + tensor)) for at in range(0, world - tensor + 1, tensor)]
    groups: list[tuple[int, ...]] = []
    first = 0
    for node in nodes:
        last = first + node.slots
        groups += [tuple(range(at, at + tensor)) for at in range(first, last - tensor + 1, tensor)]
        first = last
    return groups


def _shapes(
    parallel: ParallelSection, microbatches: int | None, replan: Replan
) -> Iterator[tuple[int, int]]:
    """(tensor, pipeline) as asked, then what may be tried in its place, largest first."""
    yield parallel.tensor, parallel.pipeline
    if replan in ("none", "data"):
        return
    tensors = _divisors(parallel.tensor) if replan == "tensor" else [parallel.tensor]
    for tensor in tensors:
        for pipeline in range(parallel.pipeline, 0, -1):
            if (tensor, pipeline) == (parallel.tensor, parallel.pipeline):
                continue
            if microbatches is None or not microbatch_problem(parallel, microbatches, pipeline):
                yield tensor, pipeline


def _divisors(number: int) -> list[int]:
    return [n for n in range(number, 0, -1) if number % n == 0]


def _fit(
    parallel: ParallelSection,
    nodes: Sequence[NodeSlots],
    tensor: int,
    pipeline: int,
    pieces: int | None,
    replan: Replan,
) -> MeshPlan | None:
    groups = tensor_groups(nodes, tensor, across_nodes=parallel.tensor_across_nodes)
    room = len(groups) // pipeline
    limit = room if pieces is None else min(room, pieces)
    if parallel.data != "auto":
        if replan == "none" and limit < parallel.data:
            return None
        limit = min(limit, parallel.data)
    replicate = parallel.replicate
    if replan != "none":
        replicate = min(replicate, limit)
    if limit < 1 or limit < replicate:
        return None
    shard = limit // replicate
    used = groups[: pipeline * replicate * shard]
    ranks = tuple(rank for group in used for rank in group)
    taken = set(ranks)
    world = sum(node.slots for node in nodes)
    return MeshPlan(
        pp=pipeline,
        dp_replicate=replicate,
        dp_shard=shard,
        tp=tensor,
        ranks=ranks,
        spares=tuple(rank for rank in range(world) if rank not in taken),
    )


def _refusal(
    parallel: ParallelSection,
    nodes: Sequence[NodeSlots],
    pieces: int | None,
    microbatches: int | None,
    replan: Replan,
) -> str:
    world = sum(node.slots for node in nodes)
    if world < 1:
        return "there is no rank to run on; join a node with at least one slot"
    most = widest(nodes)
    wanted = parallel.replicate if parallel.data == "auto" else parallel.data
    if not parallel.tensor_across_nodes and parallel.tensor > most:
        constraint = (
            f"tensor {parallel.tensor} must lie within a node, and the widest has {most} ranks "
            "(parallel.tensor_across_nodes lifts this)"
        )
    elif pieces is not None and wanted > pieces:
        constraint = f"dp {wanted} needs at least {wanted} pieces, and there are {pieces}"
    else:
        groups = len(
            tensor_groups(nodes, parallel.tensor, across_nodes=parallel.tensor_across_nodes)
        )
        need = wanted * parallel.pipeline
        needed, there = "", ""
        if parallel.tensor > 1:
            needed = f" in {counted(need, 'group')} of {parallel.tensor}"
            there = f", in {counted(groups, 'group')} of {parallel.tensor}"
        constraint = (
            f"dp {wanted} × tp {parallel.tensor} × pp {parallel.pipeline} needs "
            f"{counted(need * parallel.tensor, 'rank')}{needed}; {counted(len(nodes), 'node')} "
            f"{'has' if len(nodes) == 1 else 'have'} {world}{there}"
        )
    nearest = None if replan == "tensor" else _nearest(parallel, nodes, pieces, microbatches)
    return constraint + (f"; the nearest mesh that fits is {nearest}" if nearest else "")


def counted(number: int, noun: str) -> str:
    """`1 rank`, `2 ranks`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _nearest(
    parallel: ParallelSection,
    nodes: Sequence[NodeSlots],
    pieces: int | None,
    microbatches: int | None,
) -> str:
    found = plan(parallel, nodes, pieces=pieces, microbatches=microbatches, replan="tensor")
    return (
        f"parallel.data: {found.dp}, parallel.tensor: {found.tp}, parallel.pipeline: {found.pp}"
        + (f", parallel.replicate: {found.dp_replicate}" if parallel.replicate > 1 else "")
    )
