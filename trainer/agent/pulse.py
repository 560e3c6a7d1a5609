"""Looks at this node twice a second, and tells when it stood still."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from trainer.agent.vital_signs import LOOK_SECONDS, Look, StoodStill, Vitals, VitalSigns
from trainer.agent.worker import Worker
from trainer.channel import Message
from trainer.supervision import Failed, call_later

_TICKS = os.sysconf("SC_CLK_TCK")
"""Of /proc, a second."""
_STATE, _USER, _SYSTEM = 0, 11, 12
"""Fields of /proc/PID/stat behind the command's name."""
INSIDE = ("entering", "running", "leaving")
"""States of workers that a generation waits for."""


class Pulse:
    """`workers` are the node's; `told` hears of each time that is over; `failed` where it can't be
    looked any more."""

    def __init__(
        self,
        workers: Callable[[], Iterable[Worker]],
        told: Callable[[StoodStill], None],
        *,
        failed: Failed,
    ) -> None:
        self._workers = workers
        self._told = told
        self._failed = failed
        self._signs = VitalSigns()
        self._looked = float("-inf")
        """When, of the monotonic clock."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Look from now on, until `end`."""
        self._look()
        self._timer = call_later(LOOK_SECONDS, self.begin, failed=self._failed)

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def marked(self, message: Message) -> Message:
        """A worker's report of a step, with the seconds of it in which this node stood still.

        It may be the first that is heard after that: what went on is looked at before it counts.
        """
        seconds, at = message.get("step_seconds"), message.get("time")
        if not seconds or not at:
            return message
        if self._signs.stands or time.monotonic() - self._looked > 2 * LOOK_SECONDS:
            self._look()
        still = min(seconds, self._signs.overlap(at - seconds, at))
        return {**message, "stood_still": still} if still else message

    def _look(self) -> None:
        self._looked = time.monotonic()
        for found in self._signs.look(_seen(self._workers())):
            self._told(found)


def _seen(workers: Iterable[Worker]) -> Look:
    inside = [w.pid for w in workers if w.state in INSIDE and not w.standby]
    vitals = {pid: found for pid in inside if (found := vitals_of(pid)) is not None}
    return Look(
        wall=time.time(),
        monotonic=time.clock_gettime(time.CLOCK_MONOTONIC),
        boottime=time.clock_gettime(time.CLOCK_BOOTTIME),
        cpu=time.process_time(),
        workers=vitals,
    )


def vitals_of(pid: int) -> Vitals | None:
    """From /proc; None for a process that is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if len(fields) <= _SYSTEM:
        return None
    cpu = (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS
    return Vitals(stopped=fields[_STATE] in ("T", "t"), cpu=cpu)
