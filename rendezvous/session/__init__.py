"""The agent's side of the rendezvous."""

from __future__ import annotations

from rendezvous.session.channels import Channels
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
from rendezvous.session.identity import NodeIdentity, new_incarnation
from rendezvous.session.operator import Operator
from rendezvous.session.session import Session

__all__ = [
    "Channels",
    "Disconnected",
    "DrainAsked",
    "DrainDone",
    "GenerationBegan",
    "JobEnded",
    "LeaveAtBoundary",
    "NodeIdentity",
    "Operator",
    "Reconnected",
    "Refused",
    "Session",
    "SessionEvent",
    "Spare",
    "new_incarnation",
]
