"""What an agent orders its processes to do: to start, enter, leave and end. Pure.

When and why is for `AgentState` in state.py to decide.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from rendezvous.generation import Generation
from trainer.agent import actions as act
from trainer.agent.situation import Situation
from trainer.agent.slot import Slot, Stage


@dataclass(slots=True)
class Orders(Situation):
    """Each adds what is to be done to the actions of this step."""

    def _show(self, text: str) -> None:
        if text:
            self._out.append(act.Show(text))

    def _overdue(self, slots: Sequence[Slot], what: str, given: float, by: str) -> None:
        """Say that these are killed, for they had `given` seconds to leave `what`, as `by` says."""
        if not slots:
            return
        who = ", ".join(str(slot.local_rank) for slot in slots)
        left = f"left {what}" if what else "ended"
        source = f" ({by})" if by else ""
        self._show(f"local rank {who}: not {left}, {given:g} s after being told to{source}; killed")

    @property
    def _asked_by(self) -> str:
        """What gives a worker its time to leave a generation."""
        return "elastic.interrupt_timeout" if self.policy.persistent else "--shutdown-timeout"

    def _spawn(self, *, standby: bool) -> int:
        self._last_process += 1
        self._out.append(act.Spawn(self._last_process, standby))
        return self._last_process

    def _fill_slots(self) -> None:
        for slot in self.slots:
            if slot.stage is not Stage.EMPTY:
                continue
            chosen, ready = self._standbys.take() or (0, False)
            if chosen:
                self._out.append(act.Promote(chosen))
            slot.process = chosen or self._spawn(standby=False)
            slot.stage = Stage.IDLE if ready else Stage.STARTING

    def _keep_standbys(self) -> None:
        running = self._inside() if self._running == self._number else []
        settled = self._standbys.are_due([slot.step for slot in running])
        undisturbed = self._notice is None and self._stop is None and self._ending is None
        if undisturbed and settled and self.ready:
            while len(self._standbys) < self.policy.standby:
                self._standbys.started(self._spawn(standby=True))

    def _enter(self, slot: Slot, generation: Generation) -> None:
        if not self.policy.persistent:
            self._last_process += 1
            slot.process = self._last_process
        slot.stage = Stage.BUSY
        slot.generation = generation.number
        slot.entered = not self.policy.persistent
        slot.asked, slot.dumped, slot.deadline = False, False, None
        slot.waits = False
        self._standbys.came_to(slot.step)
        slot.step, slot.status, slot.message, slot.error = -1, "", "", ""
        slot.agreed, slot.stopped = False, ""
        self._out.append(act.Enter(slot.process, slot.local_rank, generation))

    def _ask_to_leave(self, slot: Slot, reason: str, now: float) -> None:
        slot.asked = True
        if not self.policy.persistent:
            self._interrupt(slot, reason, now)
            return
        stop = self._stop is not None
        save = stop or (self._notice is not None and self._forsaken)
        self._out.append(act.Boundary(slot.process, slot.generation, reason, save, stop))

    def _interrupt(self, slot: Slot, reason: str, now: float) -> None:
        if slot.stage is not Stage.BUSY:
            return
        self._watch.stop()
        slot.stage = Stage.LEAVING
        slot.deadline = now + self.policy.interrupt_seconds
        number = (self._notice and self._notice.asked.signal) or signal.SIGTERM
        self._out.append(act.Interrupt(slot.process, slot.generation, reason, number))

    def _vacate(self, slot: Slot, stage: Stage) -> None:
        slot.stage = stage
        slot.deadline = None
        self._watch.stop()

    def _clear_out(self, generation: int, reason: str, now: float) -> None:
        for slot in self.slots:
            if slot.generation <= generation:
                self._interrupt(slot, reason, now)

    def _kill(self, process: int, reason: str) -> None:
        if process and process not in self._doomed:
            self._doomed.add(process)
            self._out.append(act.Kill(process, reason))

    def _kill_all(self, reason: str) -> None:
        for process in self._alive():
            self._kill(process, reason)
