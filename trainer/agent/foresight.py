"""Plans for the loss of any one node, made in idle time while a generation runs, and kept."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rendezvous.generation import Generation
from trainer.supervision import logged, start_thread
from trainer.telemetry.files import replace_json

log = logging.getLogger(__name__)

IDLE_SHARE = 9.0
"""For each second of planning, so many in which the agent has its processor for itself."""

Plan = Callable[[Generation, str], dict[str, Any]]
"""What follows from the loss of the named node of a generation."""


class Foresight:
    """One thread at a time, which ends as soon as its generation is over."""

    def __init__(self, plan: Plan, path: Path) -> None:
        self._plan = plan
        self._path = path
        self._over = threading.Event()

    def begin(self, generation: Generation) -> None:
        """The generation runs: plan for the loss of each of its nodes, and write `path`."""
        self.end()
        self._over = threading.Event()
        # Nothing depends on the plans: without them `status` has less to tell.
        start_thread(self._run, generation, self._over, name="foresight", failed=logged)

    def end(self) -> None:
        """What is being planned is of no use any more."""
        self._over.set()

    def _run(self, generation: Generation, over: threading.Event) -> None:
        plans = []
        for member in generation.members:
            began = time.perf_counter()
            plans.append(self._plan(generation, member.node))
            if over.wait(IDLE_SHARE * (time.perf_counter() - began)):
                return
        document = {"generation": generation.number, "time": time.time(), "without": plans}
        try:
            replace_json(self._path, document)
        except OSError as error:
            log.warning("%s can't be written: %s", self._path, error)
