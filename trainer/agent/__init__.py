"""One node: a session with the rendezvous, worker processes, log files, the run directory.

What describes a launch and how it ended is here; `trainer.agent.agent`, which runs it, loads the
rendezvous and what keeps state, and is imported when there is nothing left to say before.
"""

from __future__ import annotations

from trainer.agent.failure import report
from trainer.agent.launch import Console, Launch, Loop, Membership, Probe, Script, Stream
from trainer.agent.leaving import EXIT_COMPLETED, EXIT_DRAINED
from trainer.agent.outcome import Outcome
from trainer.agent.process import close_to_strangers

__all__ = [
    "EXIT_COMPLETED",
    "EXIT_DRAINED",
    "Console",
    "Launch",
    "Loop",
    "Membership",
    "Outcome",
    "Probe",
    "Script",
    "Stream",
    "close_to_strangers",
    "report",
]
