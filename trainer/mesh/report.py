"""The plan in words: what `remesh plan` prints."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.job import Job
from trainer.mesh.estimate import estimate
from trainer.mesh.foresight import Loss, foresee
from trainer.mesh.moves import without_node
from trainer.mesh.plan import MeshPlan, NodeSlots, plan_job, widest

Row = tuple[str, str]


def rows(job: Job, nodes: Sequence[NodeSlots], *, without: str | None = None) -> list[Row]:
    """Label and value of each line; with `without`, what would follow from that node's loss.

    Raises:
        PlanError: no mesh fits.
    """
    pieces = job.pieces(widest(nodes))
    if without is None:
        return mesh_rows(job, plan_job(job, nodes, pieces=pieces), pieces)
    foreseen = foresee(job, nodes, without)
    if foreseen.waits:
        return loss_rows(foreseen)
    after = without_node(job, nodes, without).mesh
    head, *rest = loss_rows(foreseen)
    shown = [row for row in rest if row[0] not in ("mesh", "ranks")]
    return [head, *mesh_rows(job, after, pieces), *shown]


def loss_rows(loss: Loss) -> list[Row]:
    """The lines of one `Loss`."""
    risk = ("steps at risk", f"{loss.steps_at_risk:,}")
    if loss.waits:
        return [("without", loss.node), ("mesh", f"none: {loss.reason}"), risk]
    moved = loss.bytes_to_move
    told = "known to the factory alone" if moved is None else size_text(moved)
    return [
        ("without", loss.node),
        ("mesh", loss.mesh),
        ("ranks", str(loss.ranks)),
        ("state to move", told),
        risk,
    ]


def mesh_rows(job: Job, mesh: MeshPlan, pieces: int) -> list[Row]:
    """The lines of one mesh."""
    samples = pieces * job.train.microbatches * job.train.samples_per_microbatch(pieces)
    shown = [
        ("mesh", mesh.describe()),
        ("ranks", f"{mesh.size}" + (f", and {len(mesh.spares)} spare" if mesh.spares else "")),
        ("batch", f"{samples:,} samples, {samples * job.data.seq_len:,} tokens a step"),
    ]
    costs = estimate(job, mesh, pieces)
    rounds = -(-pieces // mesh.dp)
    idle = 1 - pieces / (rounds * mesh.dp)
    each = f"{pieces} pieces in {rounds} round{'s' if rounds > 1 else ''} of {mesh.dp}"
    shown.append(("pieces", each + (f", {idle:.0%} idle" if idle else "")))
    if costs is None:
        return shown
    shown += [
        ("parameters", f"{costs.parameters:,}; {costs.parameters_of_rank:,} a rank"),
        ("state", f"{size_text(costs.state_bytes)} a rank"),
        ("memory", f"about {size_text(costs.memory_bytes)} a rank"),
    ]
    if mesh.pp > 1:
        shown.append(("bubble", f"{costs.bubble:.1%} ({job.parallel.schedule})"))
    return shown


def size_text(size: float) -> str:
    """Bytes in words: 1536 is `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
