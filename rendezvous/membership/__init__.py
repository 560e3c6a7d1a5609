"""Who trains together: a pure state machine that turns events into effects, with reasons.

    membership = Membership(secrets.token_hex)
    effects = membership.step(event, now)       # carry them out, in order
    membership.next_deadline()                  # step(Tick(), now) no later than this

`now` is any monotonic clock, in seconds; one leader uses one clock. A leader begins with
`step(NewLeader(record=...), now)`, where the record is what it found in the store.
"""

from __future__ import annotations

from rendezvous.membership.effects import (
    AskBoundary,
    AskDrain,
    DrainDone,
    Effect,
    EndJob,
    KeepSpare,
    Note,
    Persist,
    Publish,
    Refuse,
    Warn,
)
from rendezvous.membership.events import (
    Beat,
    DrainAsked,
    Event,
    Finished,
    Join,
    Leave,
    Left,
    Listening,
    NewLeader,
    Running,
    ScaleAsked,
    StopAsked,
    StreamLost,
    Tick,
    WorkerFailed,
)
from rendezvous.membership.record import Drain, Ended, Failure, Record
from rendezvous.membership.spec import JobSpec
from rendezvous.membership.transition import Membership
from rendezvous.membership.view import JobView, NodeView

__all__ = [
    "AskBoundary",
    "AskDrain",
    "Beat",
    "Drain",
    "DrainAsked",
    "DrainDone",
    "Effect",
    "EndJob",
    "Ended",
    "Event",
    "Failure",
    "Finished",
    "JobSpec",
    "JobView",
    "Join",
    "KeepSpare",
    "Leave",
    "Left",
    "Listening",
    "Membership",
    "NewLeader",
    "NodeView",
    "Note",
    "Persist",
    "Publish",
    "Record",
    "Refuse",
    "Running",
    "ScaleAsked",
    "StopAsked",
    "StreamLost",
    "Tick",
    "Warn",
    "WorkerFailed",
]
