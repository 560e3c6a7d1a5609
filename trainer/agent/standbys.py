"""The processes of a node that wait for a place. Pure: they are known by the agent's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

STEPS_BEFORE = 3
CATCH_UP_STEPS = 20
"""The next standby waits for the steps that are done again, but not for more of them than these."""


MOST_LOST = 3
"""So many standbys may die in a generation before it goes on without."""


class Standbys:
    """In the order in which they were started; a ready one has imported all that it needs."""

    def __init__(self) -> None:
        self._ready: dict[int, bool] = {}
        self._lost = 0
        """Those that died since a generation last went on; one that never was ready is the last."""
        self._furthest = 0
        self._due_at = math.inf

    def __len__(self) -> int:
        return len(self._ready)

    def __iter__(self) -> Iterator[int]:
        return iter(self._ready)

    def came_to(self, step: int) -> None:
        """So far a rank had come in the generation that it leaves."""
        self._furthest = max(self._furthest, step)
        self._due_at = math.inf

    def go_on_from(self, version: int) -> None:
        """A generation goes on from there, and may have to do some steps again."""
        self._lost = 0
        self.came_to(version)
        self._due_at = min(self._furthest, version + CATCH_UP_STEPS) + STEPS_BEFORE

    def are_due(self, steps: Sequence[int]) -> bool:
        """Whether the run has caught up and settled; `steps` are the last of the running ranks."""
        return bool(steps) and min(steps) >= self._due_at and self._lost < MOST_LOST

    def started(self, process: int) -> None:
        self._ready[process] = False

    def said_hello(self, process: int) -> None:
        if process in self._ready:
            self._ready[process] = True

    def ended(self, process: int) -> bool:
        """Whether it had become ready; if not, the next one would hardly do better."""
        ready = self._ready.pop(process)
        self._lost = self._lost + 1 if ready else MOST_LOST
        return ready

    def take(self) -> tuple[int, bool] | None:
        """The one that is the farthest, and whether it is ready; None when there is none."""
        if not self._ready:
            return None
        process = max(self._ready, key=lambda number: self._ready[number])
        return process, self._ready.pop(process)
