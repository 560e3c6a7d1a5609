"""One node: a session with the rendezvous, worker processes, log files, the run directory."""

from __future__ import annotations

from trainer.agent.agent import run_agent
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
    "run_agent",
]
