"""What a worker's word means for the agent's state. Pure, but for the worker's own state."""

from __future__ import annotations

from trainer.agent import facts
from trainer.agent.facts import Fact
from trainer.agent.leaving import EXIT_FAILED, EXIT_USAGE
from trainer.agent.worker import Worker
from trainer.channel import Message

HOPELESS = {"job": EXIT_USAGE, "final": EXIT_FAILED}
"""What a worker may say of its failure for no new generation to be tried, and the exit code."""


def fact_of(worker: Worker, message: Message) -> Fact | None:
    """None where nothing is to be decided; `worker.state` and `told` follow the word."""
    number = worker.number
    match message.get("type"):
        case "hello":
            worker.state, worker.was_ready = "ready", True
            return facts.Hello(number)
        case "entered":
            worker.state = "running"
            return facts.Entered(number, message["generation"], message.get("version", -1))
        case "step":
            return facts.Stepped(number, message["generation"], message["step"])
        case "waiting":
            return facts.Waits(number, message["generation"], message["on"])
        case "left":
            worker.state = "ready"
            asked = message.get("reason") == "boundary"
            error = "" if asked else message.get("error") or "no reason given"
            stopped = message.get("stopped") or ""
            return facts.Left(number, message["generation"], message["version"], error, stopped)
        case "spare":
            worker.state = "spare"
            return facts.Spared(number, message["generation"])
        case "finished":
            worker.state = "finished"
            agreed = bool(message.get("agreed"))
            return facts.Finished(number, message["generation"], message["status"], agreed)
        case "failed":
            worker.told = (message.get("message", ""), message.get("traceback", ""))
            code = HOPELESS.get(message.get("category", ""))
            error = str(message.get("error", ""))
            return facts.Broke(number, code, message.get("message", ""), error)
    return None
