"""What would follow from the loss of one node, said so that it can be kept and shown. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainer.errors import PlanError
from trainer.job import Job
from trainer.mesh.moves import steps_at_risk, without_node
from trainer.mesh.plan import NodeSlots, plan_job, widest
from trainer.names import NODE
from trainer.outside.fields import Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """The loss of `node`: the mesh after it in words, or why there is none.

    `waits`: too few nodes would be left, and the job would wait for others. `bytes_to_move` is
    None where only a factory knows the sizes, or nothing moves because the job waits.
    """

    node: str
    mesh: str
    ranks: int
    waits: bool
    reason: str
    bytes_to_move: int | None
    steps_at_risk: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def read(cls, said: Fields) -> Loss:
        """Reads what `to_dict` wrote. Raises ValueError."""
        return cls(
            node=said.name("node", NODE),
            mesh=said.text("mesh"),
            ranks=said.whole("ranks"),
            waits=said.flag("waits"),
            reason=said.text("reason"),
            bytes_to_move=said.whole("bytes_to_move") if said.has("bytes_to_move") else None,
            steps_at_risk=said.whole("steps_at_risk"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """The plans for the loss of each node of one generation, as an agent keeps them."""

    generation: int
    without: tuple[Loss, ...]

    @classmethod
    def read(cls, value: object, where: str) -> Losses:
        """Reads plans.json. Raises ValueError."""
        said = Fields(value, where)
        plans = said.each("without")
        return cls(
            generation=said.whole("generation"), without=tuple(Loss.read(plan) for plan in plans)
        )


def foresee(job: Job, nodes: Sequence[NodeSlots], lost: str) -> Loss:
    """The plan for the loss of one of these nodes, which are in the order of their ranks.

    Raises:
        PlanError: the nodes as they are fit no mesh, or none of them is called so.
    """
    if lost not in [node.node for node in nodes]:
        raise PlanError(f"no node is called {lost}; there are {', '.join(n.node for n in nodes)}")
    before = plan_job(job, nodes, replan=job.elastic.replan, pieces=job.pieces(widest(nodes)))
    waits = len(nodes) - 1 < job.elastic.min_nodes
    mesh, ranks, moved, reason = "", 0, None, ""
    if waits:
        reason = (
            f"{len(nodes) - 1} of at least {job.elastic.min_nodes} nodes: the job waits for "
            f"others up to {job.elastic.wait:g} s"
        )
    else:
        try:
            loss = without_node(job, nodes, lost)
        except PlanError as error:
            waits, reason = True, str(error)
        else:
            mesh, ranks, moved = loss.mesh.describe(), loss.mesh.size, loss.bytes_to_move
    return Loss(
        node=lost,
        mesh=mesh,
        ranks=ranks,
        waits=waits,
        reason=reason,
        bytes_to_move=moved,
        steps_at_risk=steps_at_risk(job, nodes, before, lost),
    )


def least_nodes(job: Job, slots: int) -> int:
    """The fewest nodes, of `slots` ranks each, on which the job can go on: its own minimum, or
    more where no mesh fits so few.

    Raises:
        PlanError: no mesh fits as many nodes as the job may have.
    """
    elastic = job.elastic
    for count in range(elastic.min_nodes, elastic.max_nodes + 1):
        nodes = [NodeSlots(node=str(index), slots=slots) for index in range(count)]
        try:
            plan_job(job, nodes, replan=elastic.replan, pieces=job.pieces(slots))
        except PlanError:
            if count == elastic.max_nodes:
                raise
        else:
            return count
    return elastic.max_nodes
