"""How long what is launched may take for what, as the state of an agent has to know it."""

from __future__ import annotations

from rendezvous.membership import JobSpec
from rendezvous.timeouts import Timeouts
from trainer.agent.launch import Launch, Loop
from trainer.agent.slot import Policy


def policy_of(launch: Launch) -> Policy:
    """Whether processes stay over generations, and how long each thing may take. Pure."""
    asked = launch.membership
    restart_seconds = float(asked.options.get("wait", JobSpec().wait))
    last_word_seconds = Timeouts().last_word
    if isinstance(launch.workers, Loop):
        return Policy(
            persistent=True,
            own=launch.workers.own,
            standby=launch.workers.standby,
            stop_seconds=launch.drain_seconds,
            interrupt_seconds=launch.workers.interrupt_seconds,
            hang_seconds=launch.workers.hang_seconds,
            last_word_seconds=last_word_seconds,
            restart_seconds=restart_seconds,
            max_restarts=asked.max_restarts,
        )
    return Policy(
        persistent=False,
        interrupt_seconds=launch.shutdown_seconds,
        quit_seconds=launch.shutdown_seconds,
        last_word_seconds=last_word_seconds,
        restart_seconds=restart_seconds,
        max_restarts=asked.max_restarts,
    )
