"""From a job and the nodes there are to a mesh, or the reason why there is none. Pure."""

from trainer.mesh.plan import Coordinates, MeshPlan, NodeSlots, Replan, plan, plan_job
from trainer.mesh.stages import stage_layers

__all__ = [
    "Coordinates",
    "MeshPlan",
    "NodeSlots",
    "Replan",
    "plan",
    "plan_job",
    "stage_layers",
]
