"""How long a step may take before it is taken for a hang. Pure: the time is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

REMEMBERED_STEPS = 64
MEDIANS = 10.0
LEAST_SECONDS = 30.0
FIRST_STEP_SECONDS = 1800.0
SECOND_LOOK_SECONDS = 1.0


class HangWatch:
    """Watches the slowest rank of a node.

    `seconds` is the bound, None takes ten running medians and at least 30 s. The first step of a
    generation may compile, so its bound is much longer.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._durations: deque[float] = deque(maxlen=REMEMBERED_STEPS)
        self._last: float | None = None
        self._paused = False
        self._steps = 0
        self._looked: float | None = None

    def begin(self, now: float) -> None:
        """A generation runs."""
        self._last, self._steps, self._paused, self._looked = now, 0, False, None

    def stop(self) -> None:
        """Nothing is expected any more."""
        self._last, self._paused, self._looked = None, False, None

    def pause(self) -> None:
        """Nothing is expected until `resume`."""
        self._paused = self._paused or self._last is not None
        self._last = self._looked = None

    def resume(self, now: float) -> None:
        """The next step is expected again, and its time counts from now."""
        if self._paused:
            self._last, self._paused = now, False

    def hold(self, now: float, *, held: bool) -> None:
        """`pause` or `resume`."""
        if held:
            self.pause()
        else:
            self.resume(now)

    def step(self, now: float) -> None:
        """Every rank of this node has done another step."""
        if self._last is None:
            return
        if self._steps:
            self._durations.append(now - self._last)
        self._last, self._steps, self._looked = now, self._steps + 1, None

    def idle(self, now: float) -> float:
        """Seconds since the last step."""
        return 0.0 if self._last is None else now - self._last

    @property
    def limit(self) -> float:
        """How long the step that is going on may take."""
        usual = self._seconds
        if usual is None:
            typical = median(self._durations) if self._durations else 0.0
            usual = max(LEAST_SECONDS, MEDIANS * typical)
        return usual if self._steps else max(usual, FIRST_STEP_SECONDS)

    def deadline(self) -> float | None:
        """When the step that is going on should be looked at; None when none is."""
        if self._looked is not None:
            return self._looked + SECOND_LOOK_SECONDS
        return None if self._last is None else self._last + self.limit

    def overdue(self, now: float) -> bool:
        """Whether the step is, also at a second look: an agent that was stopped itself has words
        of its workers left to read."""
        deadline = self.deadline()
        if deadline is None or now < deadline:
            return False
        first = self._looked is None
        self._looked = now if first else self._looked
        return not first


def describe(idle: float, steps: Sequence[int]) -> str:
    """What is known of a hang when it is found: `steps` are the last of each rank of the node."""
    told = f"no step for {idle:.0f} s"
    if len(steps) > 1 and len(set(steps)) == 1:
        told += ", this node's ranks side by side: who hangs shows when all have to leave"
    return told
