"""From a job and the nodes there are to a mesh, or the reason why there is none. Pure."""

from trainer.mesh.estimate import Estimate, decoder_stages, estimate, kept_bytes_of_rank
from trainer.mesh.foresight import Loss, Losses, foresee, least_nodes
from trainer.mesh.moves import NodeLoss, without_node
from trainer.mesh.plan import Coordinates, MeshPlan, NodeSlots, Replan, plan, plan_job, widest
from trainer.mesh.report import loss_rows, rows
from trainer.mesh.stages import stage_layers

__all__ = [
    "Coordinates",
    "Estimate",
    "Loss",
    "Losses",
    "MeshPlan",
    "NodeLoss",
    "NodeSlots",
    "Replan",
    "decoder_stages",
    "estimate",
    "foresee",
    "kept_bytes_of_rank",
    "least_nodes",
    "loss_rows",
    "plan",
    "plan_job",
    "rows",
    "stage_layers",
    "widest",
    "without_node",
]
