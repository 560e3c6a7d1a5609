"""The life of a worker: enter a generation, train, leave, enter the next, in one process."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

from trainer.channel import WorkerEnd
from trainer.data import open_batches
from trainer.errors import JobError
from trainer.job import load
from trainer.mesh import MeshPlan, NodeSlots, plan_job
from trainer.models.factory import build_spec
from trainer.worker.generation import Finished, GenerationRun, Left, Surroundings
from trainer.worker.groups import local_device
from trainer.worker.inbox import Enter, Exit, Inbox
from trainer.worker.state import ModelState

log = logging.getLogger(__name__)


def live(channel: WorkerEnd) -> int:
    """Serve the agent until it says exit; returns the exit code of the process."""
    inbox = Inbox(channel)
    around: Surroundings | None = None
    past: ModelState | None = None
    while True:
        order = inbox.next_order()
        if isinstance(order, Exit):
            return 0
        try:
            if around is None or around.path != order.job:
                around, past = _surroundings(order, channel, inbox), None
            outcome, past = _enter(order, around, past)
        except JobError as error:
            channel.send({"type": "failed", "category": "job", "message": str(error)})
            return 2
        except Exception as error:
            log.exception("generation %d failed", order.generation)
            channel.send(
                {
                    "type": "failed",
                    "category": "worker",
                    "message": f"{type(error).__name__}: {error}",
                    "traceback": traceback.format_exc(),
                }
            )
            return 1
        channel.send(_farewell(order, outcome))


def _surroundings(order: Enter, channel: WorkerEnd, inbox: Inbox) -> Surroundings:
    job = load(Path(order.job))
    pieces = job.pieces(max(node.slots for node in _nodes(order)))
    return Surroundings(
        path=order.job,
        job=job,
        spec=build_spec(job),
        batches=open_batches(job, pieces=pieces),
        device=local_device(order.local_rank),
        channel=channel,
        inbox=inbox,
        pieces=pieces,
    )


def _nodes(order: Enter) -> list[NodeSlots]:
    return [NodeSlots(node=node, slots=slots) for node, slots, _host in order.members]


def _enter(
    order: Enter, around: Surroundings, past: ModelState | None
) -> tuple[Left | Finished | None, ModelState | None]:
    """How the generation went, and the state this process is left with.

    The outcome is None where this rank has no place in the mesh and waits as a spare.
    """
    mesh = mesh_plan(order, around)
    if order.rank in mesh.spares:
        log.info("rank %d is a spare in generation %d", order.rank, order.generation)
        return None, past
    log.info(
        "rank %d enters generation %d (%s): %s",
        order.rank,
        order.generation,
        mesh.describe(),
        order.reason,
    )
    run = GenerationRun(order, mesh, mesh.ranks.index(order.rank), around, past)
    return run(), run.past


def mesh_plan(order: Enter, around: Surroundings) -> MeshPlan:
    """The same pure function, over the same members, on every rank."""
    job = around.job
    return plan_job(job, _nodes(order), replan=job.elastic.replan, pieces=around.pieces)


def _farewell(order: Enter, outcome: Left | Finished | None) -> dict[str, Any]:
    match outcome:
        case None:
            return {"type": "spare", "generation": order.generation}
        case Finished():
            return {
                "type": "finished",
                "generation": order.generation,
                "status": outcome.status,
                "summary": outcome.summary,
            }
        case Left():
            log.info("left generation %d: %s", order.generation, outcome.detail)
            return {
                "type": "left",
                "generation": order.generation,
                "version": outcome.version,
                "reason": outcome.reason,
                "error": outcome.detail,
            }
