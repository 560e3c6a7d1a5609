"""When a node stood still, from what its agent sees each time it looks. Pure.

The agent looks twice a second: at the clocks, at its own use of processors, and at its workers in
/proc. Three things tell that nothing went forward since the last look:

- the machine was suspended: the clock that counts that (CLOCK_BOOTTIME) is ahead of the one that
  does not;
- a worker of the generation is stopped (state T in /proc/PID/stat: SIGSTOP, Ctrl-Z, a debugger);
- the look itself comes late, and neither the agent nor any worker has used a processor meanwhile,
  as they did before: all of them were stopped, or frozen.

An agent alone that comes late says nothing: its workers train without it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

LOOK_SECONDS = 0.5
"""Between two looks."""
LATE_SECONDS = 1.0
"""A look that is less late than this is one of a busy machine."""
IDLE = 0.2
"""Of what a worker used of processors before: who used less since did not run. An agent seldom uses
any, and used less than this of one if it was not what kept itself from looking."""
GRAIN_SECONDS = 0.05
"""/proc counts a process's time in hundredths of a second; and who goes on may do so before us."""
NEWEST = 0.2
"""The weight of the last look in what a process usually uses."""
LEAST_SECONDS = 1.0
"""What is over sooner is not worth a word, nor counted."""
REMEMBERED = 64
"""Times of standing still that steps can be held against, newest last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """A process: whether it is stopped, and the seconds of processors that it has used."""

    stopped: bool
    cpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What an agent sees. Seconds of each clock; `workers` are those that are in a generation, by
    pid, and `cpu` the agent's own seconds of processors."""

    wall: float
    monotonic: float
    boottime: float
    cpu: float
    workers: Mapping[int, Vitals]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoodStill:
    """So many `seconds`, and why. Steps may overlap with it from `begin` to `end` (of the wall
    clock); clocks that time steps stand still themselves while a machine is suspended."""

    begin: float
    end: float
    seconds: float
    why: str


@dataclass(slots=True)
class VitalSigns:
    """Look after look of one node."""

    _last: Look | None = None
    _open: StoodStill | None = None
    """What goes on still, as far as it was seen."""
    _usual: dict[int, float] = field(default_factory=dict)
    """Processors that each worker uses while the looks come in time, by pid."""
    _past: deque[StoodStill] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def look(self, now: Look) -> list[StoodStill]:
        """What is over with this look."""
        before, self._last = self._last, now
        if before is None:
            return []
        found = []
        elapsed = now.monotonic - before.monotonic
        suspended = now.boottime - before.boottime - elapsed
        if suspended >= LEAST_SECONDS:
            why = "the machine was suspended"
            found.append(StoodStill(begin=now.wall, end=now.wall, seconds=suspended, why=why))
        stopped = [pid for pid, worker in now.workers.items() if worker.stopped]
        late = elapsed - LOOK_SECONDS
        if stopped:
            pids = ", ".join(map(str, stopped))
            self._extend(
                now, elapsed, f"pid {pids} {'was' if len(stopped) == 1 else 'were'} stopped"
            )
        elif late >= LATE_SECONDS and self._idle(before, now, late):
            self._extend(now, late, "the agent and its workers did not run")
        elif late < LATE_SECONDS and elapsed > 0.0:
            self._learn(before, now, elapsed)
        if self._open is not None and not stopped:
            if self._open.seconds >= LEAST_SECONDS:
                found.append(self._open)
            self._open = None
        self._past.extend(found)
        return found

    @property
    def stands(self) -> bool:
        """Whether it stood still at the last look, and may do so no more."""
        return self._open is not None

    def overlap(self, begin: float, end: float) -> float:
        """Seconds of the wall clock between the two in which it stood still."""
        return sum(max(0.0, min(end, past.end) - max(begin, past.begin)) for past in self._past)

    def _extend(self, now: Look, seconds: float, why: str) -> None:
        past = self._open
        if past is None:
            past = StoodStill(begin=now.wall - seconds, end=now.wall, seconds=0.0, why=why)
        whole = past.seconds + seconds
        self._open = StoodStill(begin=past.begin, end=now.wall, seconds=whole, why=past.why)

    def _idle(self, before: Look, now: Look, late: float) -> bool:
        """Whether nobody ran after the look was due. Workers that came or went did."""
        agent = now.cpu - before.cpu
        if before.workers.keys() != now.workers.keys() or agent > IDLE * late:
            return False
        for pid, used in _used(before, now).items():
            usual = self._usual.get(pid, 1.0)
            if used > usual * (LOOK_SECONDS + IDLE * late) + GRAIN_SECONDS:
                return False
        return True

    def _learn(self, before: Look, now: Look, elapsed: float) -> None:
        rates = {pid: used / elapsed for pid, used in _used(before, now).items()}
        self._usual = {
            pid: rate + (1.0 - NEWEST) * (self._usual.get(pid, rate) - rate)
            for pid, rate in rates.items()
        }


def _used(before: Look, now: Look) -> dict[int, float]:
    """Seconds of processors of each worker that was there all the time."""
    both = before.workers.keys() & now.workers.keys()
    return {pid: now.workers[pid].cpu - before.workers[pid].cpu for pid in both}
