"""In which steps a run stood still, and for how long. Pure.

A process that is stopped, frozen or has no processor does not know it: its clock goes on, and the
step that it was in took longer. What the step's own node has seen of it is told with the step
(`stood_still`). For the rest, ranks of other nodes above all, a step is held against its
neighbours: it stood still for as long as it took longer than they do, if

- it took `FACTOR` times as long as they, and `LEAST_SECONDS` longer;
- it is none of the generation's first, which compile;
- the time did not go into the copy of a state that is to be saved;
- its process did not compute meanwhile, where that is known;
- no other step of the run took longer by as much: an evaluation every n steps does.

So what is not clear counts as a step that took long, not as one that stood still.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Self

NEIGHBOURS = 8
"""Steps on each side that a step is held against."""
LEAST_NEIGHBOURS = 4
"""With fewer of them in all, nobody can say what is usual."""
UNSETTLED_STEPS = 3
"""A generation's first compile, fill caches, and capture graphs."""
FACTOR = 5.0
"""What takes less than so many times the usual is a slow step."""
LEAST_SECONDS = 3.0
"""What takes longer than usual by less may be anything: a page read from disk, a collection of
garbage, a busy neighbour."""
ALIKE = 1.25
"""Lengths are sorted into classes, each so many times the one before; those of one class and of the
two beside it are alike."""
BUSY = 0.25
"""Of the time that a step took longer: who computed for more than that did not stand still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """What is known of the time that a step took, in seconds.

    Of `seconds` its node has seen `seen` to be no training, and for `waited` of it the copy of a
    state was waited for; `cpu` is what its process used of processors, None where that says
    nothing.
    """

    step: int
    generation: int
    seconds: float
    seen: float = 0.0
    waited: float = 0.0
    cpu: float | None = None

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Self:
        """From a line of metrics, of any age."""
        seconds = max(0.0, float(line.get("step_seconds") or 0.0))
        cpu = line.get("cpu_seconds")
        return cls(
            step=int(line.get("step") or 0),
            generation=int(line.get("generation") or 0),
            seconds=seconds,
            seen=min(seconds, float(line.get("stood_still") or 0.0)),
            waited=float(line.get("waited_seconds") or 0.0),
            cpu=None if cpu is None else float(cpu),
        )

    @property
    def trained(self) -> float:
        """Seconds less what is known to be no training."""
        return max(0.0, self.seconds - self.seen - self.waited)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Seconds of one step: in `seen` it stood still, by what its node saw; in `guessed` too, by its
    neighbours, if it is the only one of its kind. `reason` says why."""

    step: int
    seen: float
    guessed: float
    reason: str


def judge(step: StepTime, neighbours: Sequence[StepTime]) -> Verdict:
    """What a step's neighbours say of it: settled ones of its own generation, on both sides.

    None are given for a step that is not settled itself: then what was seen is all.
    """
    if len(neighbours) < LEAST_NEIGHBOURS:
        why = "seen by its node" if step.seen else "not held against any other step"
        return Verdict(step=step.step, seen=step.seen, guessed=0.0, reason=why)
    usual = median(other.trained for other in neighbours)
    # A node's looks are half a second apart: what went on between two of them was training.
    seen = min(step.seen, max(0.0, step.seconds - usual))
    more = step.seconds - seen - step.waited - usual
    took = f"{step.seconds:.1f} s, its neighbours {usual:.2g} s"
    if more < LEAST_SECONDS or more + usual < FACTOR * usual:
        why = "seen by its node" if seen else "as long as its neighbours"
        return Verdict(step=step.step, seen=seen, guessed=0.0, reason=f"{why}: {took}")
    computed = _computed_more(step, neighbours)
    if computed > BUSY * more:
        why = f"it computed for {computed:.1f} s of that"
        return Verdict(step=step.step, seen=seen, guessed=0.0, reason=f"{took}; {why}")
    return Verdict(step=step.step, seen=seen, guessed=more, reason=took)


def _computed_more(step: StepTime, neighbours: Sequence[StepTime]) -> float:
    """Seconds of processors beyond its neighbours'; 0 where that is not known."""
    known = [other.cpu for other in neighbours if other.cpu is not None]
    return 0.0 if step.cpu is None or not known else step.cpu - median(known)


class Standstill:
    """The verdicts of a run's steps, one step after the other, in bounded memory.

    A step is held against those before it at first, and again once those after it are there.
    """

    def __init__(self) -> None:
        self._window: deque[StepTime] = deque(maxlen=2 * NEIGHBOURS + 1)
        """The last steps of the generation, from the first that is settled."""
        self._open = 0
        """How many at the end of the window have no final verdict yet."""
        self._generation = 0
        self._steps = 0
        """Of this generation so far."""
        self._seen = 0.0
        """Seconds, of the steps with a final verdict."""
        self._guesses: dict[int, tuple[int, Verdict]] = {}
        """By the class of their length: how many final verdicts guess that much, and the first."""

    @classmethod
    def over(cls, lines: Iterable[Mapping[str, Any]]) -> Self:
        """Of the lines of a metrics file."""
        made = cls()
        for line in lines:
            made.add(StepTime.of(line))
        return made

    def add(self, step: StepTime) -> None:
        """The next step that counts. One that took no time was only told again."""
        if not step.seconds:
            return
        if step.generation != self._generation:
            self._close(self._open)
            self._window.clear()
            self._generation, self._steps = step.generation, 0
        self._steps += 1
        if self._steps <= UNSETTLED_STEPS:
            self._take(judge(step, ()))
            return
        self._window.append(step)
        self._open += 1
        if self._open > NEIGHBOURS:
            self._close(1)

    @property
    def seconds(self) -> float:
        """Of all counted steps, in which they stood still."""
        return self._settled()[0]

    def alone(self) -> list[Verdict]:
        """The guesses that stand, in the order of steps: nothing else in the run is like them."""
        return self._settled()[1]

    def _settled(self) -> tuple[float, list[Verdict]]:
        seen, guesses = self._seen, dict(self._guesses)
        for index in range(len(self._window) - self._open, len(self._window)):
            verdict = self._judged(index)
            seen += verdict.seen
            _count(guesses, verdict)
        alone = [
            verdict
            for kind, (count, verdict) in guesses.items()
            if count == 1 and kind - 1 not in guesses and kind + 1 not in guesses
        ]
        return seen + sum(v.guessed for v in alone), sorted(alone, key=lambda v: v.step)

    def _judged(self, index: int) -> Verdict:
        around = list(self._window)
        before = around[max(0, index - NEIGHBOURS) : index]
        after = around[index + 1 : index + 1 + NEIGHBOURS]
        return judge(around[index], [*before, *after])

    def _close(self, count: int) -> None:
        for _ in range(count):
            self._take(self._judged(len(self._window) - self._open))
            self._open -= 1

    def _take(self, verdict: Verdict) -> None:
        self._seen += verdict.seen
        _count(self._guesses, verdict)


def _count(guesses: dict[int, tuple[int, Verdict]], verdict: Verdict) -> None:
    if not verdict.guessed:
        return
    kind = round(math.log(verdict.guessed, ALIKE))
    count, first = guesses.get(kind, (0, verdict))
    guesses[kind] = count + 1, first
