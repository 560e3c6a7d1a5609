"""Failures as data: what the job's `faults` do to this rank, at named points of a step.

A fault happens `times` times in a run, whoever runs the step again after it: each time leaves a
mark, a file that is made once, in the run directory.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.job import Fault

log = logging.getLogger(__name__)

POINTS = {
    "begin": "before-backward",
    "piece": "in-fold",
    "gradients": "before-norm",
    "agreed": "after-norm",
    "applied": "after-apply",
    "saving": "in-save",
}
"""A step's points, as it names them, and as the job file does."""
FOREVER = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """Who could be struck, and where."""

    rank: int
    world_size: int
    node: str
    generation: int
    step: int
    point: str


def strikes(fault: Fault, here: Here, seed: int) -> bool:
    """Whether the fault befalls this rank at this point of this step. Pure.

    `step` counts from 1, as in metrics.jsonl. A fault without rank or node draws one rank; one
    with a rate strikes each rank in each step by chance, the same in every repetition.
    """
    # There is no number to spoil before the gradients are there.
    if here.point != ("before-norm" if fault.kind == "nan" else fault.point):
        return False
    if fault.generation is not None and fault.generation != here.generation:
        return False
    if fault.node is not None and fault.node != here.node:
        return False
    if fault.rank is not None and fault.rank != here.rank:
        return False
    if fault.rate is not None:
        return _chance(seed, fault.kind, here.step, here.rank) < fault.rate
    if fault.step != here.step:
        return False
    if fault.rank is None and fault.node is None:
        return int(_chance(seed, fault.kind, here.step) * here.world_size) == here.rank
    return True


def _chance(*key: object) -> float:
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little") / 2.0**56


class Faults:
    """The job's faults, as one rank in one generation meets them.

    `poison` makes a gradient not a number; `disconnect` cuts this rank's connections.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        *,
        seed: int,
        marks: Path,
        poison: Callable[[], None],
        disconnect: Callable[[], None],
    ) -> None:
        self._faults = list(enumerate(faults))
        self._seed = seed
        self._marks = marks
        self._poison = poison
        self._disconnect = disconnect

    def at(self, here: Here) -> None:
        """Strike if it is time to. Raises RuntimeError for kind raise."""
        for number, fault in self._faults:
            if strikes(fault, here, self._seed) and self._mark(number, fault.times):
                log.warning(
                    "fault %d: %s at step %d, %s", number, fault.kind, here.step, here.point
                )
                self._strike(fault)

    def _mark(self, number: int, times: int) -> bool:
        """Take the next mark of the fault; False when it has happened often enough."""
        self._marks.mkdir(parents=True, exist_ok=True)
        for turn in range(times):
            try:
                (self._marks / f"{number}-{turn}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False

    def _strike(self, fault: Fault) -> None:
        agent = os.getppid()
        match fault.kind:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                self._continue_later(fault.seconds)
                os.kill(os.getpid(), signal.SIGSTOP)
            case "hang":
                time.sleep(FOREVER)
            case "slow":
                time.sleep(fault.seconds)
            case "raise":
                raise RuntimeError("a fault that the job asked for")
            case "exit":
                os._exit(fault.code)
            case "nan":
                self._poison()
            case "disconnect":
                self._disconnect()
            case "drain":
                os.kill(agent, signal.SIGTERM)
            case "agent-kill":
                os.kill(agent, signal.SIGKILL)

    @staticmethod
    def _continue_later(seconds: float) -> None:
        subprocess.Popen(
            ["/bin/sh", "-c", f"sleep {seconds:g}; kill -CONT {os.getpid()}"],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
