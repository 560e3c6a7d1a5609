"""What the rendezvous says, as facts for the agent's state; the record is told of it too."""

from __future__ import annotations

from rendezvous.session.events import (
    Disconnected,
    DrainAsked,
    DrainDone,
    GenerationBegan,
    JobEnded,
    LeaveAtBoundary,
    Reconnected,
    Refused,
    SessionEvent,
    Spare,
)
from trainer.agent import facts
from trainer.agent.facts import Fact
from trainer.agent.record import Record
from trainer.agent.waiting import Waiting


def fact_of_event(
    event: SessionEvent, record: Record, waiting: Waiting, *, trains: bool
) -> Fact | None:
    """None where nothing is to be decided. `trains`: this node is inside a generation."""
    match event:
        case GenerationBegan(generation):
            return facts.Began(generation)
        case LeaveAtBoundary(generation, reason, going):
            return facts.BoundaryAsked(generation, reason, going)
        case JobEnded(status, reason):
            return facts.Ended(status, reason)
        case DrainAsked(reason, grace):
            record.event("node.drain", reason=reason)
            return facts.DrainAsked(reason, grace)
        case DrainDone(_reason, handed_over):
            return facts.DrainDone(handed_over)
        case Refused(reason, retryable):
            if not retryable:
                return facts.TurnedAway(reason)
            waiting.refused(reason, trains=trains)
        case Spare(reason, generation):
            record.event("node.spare", reason=reason)
            waiting.wait_for(f"waiting: {reason}")
            return facts.Reserved(generation, reason)
        case Disconnected(_, met):
            waiting.service_lost(met=met, trains=trains)
            return facts.ServiceLost()
        case Reconnected():
            waiting.service_back()
            return facts.ServiceBack()
    return None
