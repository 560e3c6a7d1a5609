"""What an agent decides: which process has which place, and when to say what. Pure.

    state = AgentState(node, slots, policy)
    actions = state.begin(now)
    actions = state.step(fact, now)         # carry them out, in order
    state.next_deadline()                   # step(Tick(), now) no later than this

A slot is one rank's place on this node. Loop workers stay in their slot from generation to
generation and are replaced by a standby when they die; a script's process is started anew in
every generation. Everything else is the same for both.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from rendezvous.generation import Generation
from trainer.agent import actions as act
from trainer.agent import facts
from trainer.agent.actions import Action
from trainer.agent.facts import Fact
from trainer.agent.hang import HangWatch
from trainer.agent.process import Exit
from trainer.agent.slot import Policy, Slot, Stage
from trainer.agent.standbys import Standbys

EXIT_COMPLETED, EXIT_FAILED, EXIT_USAGE, EXIT_DRAINED = 0, 1, 2, 75
STEPS_BEFORE_STANDBY = 3
HOPELESS_STARTS = 3
HANG_SECOND_LOOK_SECONDS = 1.0
STUCK, HUNG = "worker.stuck", "worker.hung"


@dataclass(slots=True)
class _Ending:
    code: int
    status: str
    reason: str
    deadline: float
    whole: bool
    over: bool = False


@dataclass(slots=True)
class AgentState:
    """One node's view of one job."""

    node: str
    slot_count: int
    policy: Policy
    generation: Generation | None = None
    slots: list[Slot] = field(init=False)
    _standbys: Standbys = field(default_factory=Standbys)
    _doomed: set[int] = field(default_factory=set)
    _last_process: int = 0
    _running: int = 0
    _left: int = 0
    _failed: int = 0
    _finished: int = 0
    _boundary: tuple[int, str] = (0, "")
    _cause: str = ""
    _drain: facts.DrainAsked | None = None
    _drain_deadline: float | None = None
    _drained: bool = False
    _ending: _Ending | None = None
    _false_starts: int = 0
    _steps_since_running: int = 0
    _watch: HangWatch = field(init=False)
    _overdue_since: float | None = None
    _out: list[Action] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._watch = HangWatch(self.policy.hang_seconds)
        self.slots = [Slot(local_rank) for local_rank in range(self.slot_count)]

    # What happens

    def begin(self, now: float) -> list[Action]:
        """Start what can start before anything is agreed."""
        return self.step(facts.Tick(), now)

    def step(self, fact: Fact, now: float) -> list[Action]:
        """Take in one fact; the actions that follow from it, in order."""
        self._out = []
        match fact:
            case facts.Began(generation):
                self._on_began(generation)
            case facts.BoundaryAsked(generation, reason):
                if self.generation is not None and generation == self.generation.number:
                    self._boundary = (generation, reason)
            case facts.Ended(status, reason):
                self._on_ended(status, reason, now)
            case facts.TurnedAway(reason):
                code = EXIT_USAGE if self.generation is None else EXIT_FAILED
                self._end(code, "failed", reason, now)
            case facts.DrainAsked():
                self._on_drain(fact, now)
            case facts.DrainDone():
                self._drained = True
            case facts.Hurry():
                self._end(EXIT_DRAINED, "drained", "asked twice to end", now, at_once=True)
            case facts.Exited(process, how):
                self._on_exit(process, how, now)
            case facts.Hello(process):
                self._on_hello(process)
            case facts.Tick():
                self._on_time(now)
            case _:
                slot = self._slot_of(fact.process)
                if slot is not None:
                    self._on_word(slot, fact, now)
        self._advance(now)
        return self._out

    def next_deadline(self) -> float | None:
        """When the next `Tick` is due; None when nothing waits for time alone."""
        times = [slot.deadline for slot in self.slots if slot.deadline is not None]
        if self._drain_deadline is not None:
            times.append(self._drain_deadline)
        if self._overdue_since is not None:
            times.append(self._overdue_since + HANG_SECOND_LOOK_SECONDS)
        elif (overdue := self._watch.deadline()) is not None:
            times.append(overdue)
        if self._ending is not None and not self._ending.over:
            times.append(self._ending.deadline)
        return min(times, default=None)

    @property
    def ready(self) -> bool:
        """Whether every slot could enter a generation at once."""
        return not self.policy.persistent or all(
            slot.stage not in (Stage.EMPTY, Stage.STARTING) for slot in self.slots
        )

    @property
    def member(self) -> bool:
        """Whether this node is in the newest generation."""
        return self.generation is not None and self.generation.group_rank(self.node) is not None

    @property
    def inside_generation(self) -> bool:
        """Whether every worker of this node is in the newest generation."""
        return (
            self.member
            and self.generation is not None
            and self._running == self.generation.number
            and all(slot.inside for slot in self.slots)
        )

    @property
    def ending(self) -> bool:
        return self._ending is not None

    @property
    def draining(self) -> bool:
        return self._drain is not None

    def rank_of(self, slot: Slot) -> int | None:
        """The slot's global rank in the newest generation; None when it has none."""
        first = self.generation.first_rank(self.node) if self.generation is not None else None
        return None if first is None else first + slot.local_rank

    # One fact at a time

    def _on_began(self, generation: Generation) -> None:
        if self.generation is None or generation.number > self.generation.number:
            self.generation = generation
            self._steps_since_running = 0
            self._cause = ""

    def _on_ended(self, status: str, reason: str, now: float) -> None:
        asked_for = any(slot.status == "stopped" for slot in self.slots)
        if status == "failed":
            code, word = EXIT_FAILED, status
        elif self._drain is not None:
            code, word = EXIT_DRAINED, "drained"
        elif status == "stopped" and not asked_for:
            code, word = EXIT_DRAINED, status
        else:
            code, word = EXIT_COMPLETED, status
        self._end(code, word, reason, now, whole=True)

    def _on_drain(self, asked: facts.DrainAsked, now: float) -> None:
        if self._drain is not None or self._ending is not None:
            return
        self._drain = asked
        if self.generation is None or not self.member:
            self._end(EXIT_DRAINED, "drained", asked.reason, now)
            return
        self._drain_deadline = now + asked.grace
        if len(self.generation.members) == 1:
            self._boundary = (self.generation.number, asked.reason)
        else:
            self._out.append(act.TellDrain(asked.grace, asked.reason))

    def _on_hello(self, process: int) -> None:
        self._false_starts = 0
        self._standbys.said_hello(process)
        slot = self._slot_of(process)
        if slot is not None and slot.stage is Stage.STARTING:
            slot.stage = Stage.IDLE

    def _on_word(self, slot: Slot, fact: Fact, now: float) -> None:
        match fact:
            case facts.Broke(_process, code, message):
                slot.message = message
                if code is not None and self.generation is not None and self._ending is None:
                    number = self.generation.number
                    self._out.append(act.TellFinished(number, "failed", message))
                    self._end(code, "failed", message, now, whole=True)
            case facts.Entered(_process, generation) if generation == slot.generation:
                slot.entered = True
            case facts.Stepped(_process, generation, step) if generation == slot.generation:
                before = min(other.step for other in self._inside())
                slot.step = step
                self._steps_since_running += generation == self._running
                if generation == self._running and before < min(s.step for s in self._inside()):
                    self._watch.step(now)
                    self._overdue_since = None
            case facts.Waits(_process, generation, on) if generation == slot.generation:
                slot.waits = on
                if any(other.waits for other in self._inside()):
                    self._watch.pause()
                else:
                    self._watch.resume(now)
            case facts.Left(_process, generation, version, error) if (
                generation == slot.generation and slot.inside
            ):
                stage, slot.version = slot.stage, version
                self._vacate(slot, Stage.IDLE)
                if error and stage is Stage.BUSY:
                    self._cause = self._cause or f"rank {self.rank_of(slot)}: {error}"
                    self._clear_out(generation, self._cause, now)
            case facts.Spared(_process, generation) if generation == slot.generation:
                self._vacate(slot, Stage.SPARE)
                slot.entered = True
            case facts.Finished(_process, generation, status) if generation == slot.generation:
                self._vacate(slot, Stage.DONE)
                slot.status = status
            case _:
                pass  # an echo of a generation that is over

    def _on_exit(self, process: int, how: Exit, now: float) -> None:
        ours = process in self._doomed
        self._doomed.discard(process)
        if self._standbys.ended(process):
            return
        slot = self._slot_of(process)
        if slot is None:
            return
        stage, number = slot.stage, slot.generation
        message, slot.message = slot.message, ""
        slot.process = 0
        self._steps_since_running = 0
        self._vacate(slot, Stage.EMPTY)
        if self._ending is not None:
            return
        if not self.policy.persistent and how.ok and stage is Stage.BUSY:
            slot.stage, slot.status = Stage.DONE, "completed"
        elif stage is Stage.STARTING:
            self._false_starts += 1
            if self._false_starts >= HOPELESS_STARTS:
                reason = f"workers end before they are ready ({how}), {self._false_starts} times"
                self._end(EXIT_FAILED, "failed", reason, now)
        elif self.generation is None or number != self.generation.number:
            pass
        elif stage is Stage.BUSY or (stage is Stage.DONE and self.policy.persistent):
            self._fail(slot, how, message, now)
        elif stage is Stage.LEAVING and self._cause and not ours:
            # Its death is why the others had left, only that they were heard first.
            self._fail(slot, how, message, now)

    def _on_time(self, now: float) -> None:
        for slot in self.slots:
            if slot.deadline is None or now < slot.deadline:
                continue
            if self.policy.persistent and not slot.dumped:
                slot.dumped = True
                slot.deadline = now + self.policy.dump_seconds
                self._out.append(act.Dump(slot.process, STUCK))
            else:
                slot.deadline = None
                self._kill(slot.process, "did not leave the generation in time")
        if self._drain_deadline is not None and now >= self._drain_deadline:
            self._drain_deadline = None
            reason = "the notice ran out before the state was handed over"
            self._end(EXIT_DRAINED, "drained", reason, now, at_once=True)
        self._look_for_a_hang(now)
        if self._ending is not None and now >= self._ending.deadline:
            self._kill_all("did not end in time")
            self._ending.deadline = float("inf")

    def _look_for_a_hang(self, now: float) -> None:
        """Ends the generation when no step was done for too long: whoever does not come out of it
        by itself is the one that hangs, and is replaced."""
        overdue = self._watch.deadline()
        if overdue is None or now < overdue or not self._inside():
            return
        if self._overdue_since is None:
            # An agent that was stopped itself has words of its workers left to read.
            self._overdue_since = now
            return
        if now < self._overdue_since + HANG_SECOND_LOOK_SECONDS:
            return
        idle = self._watch.idle(now)
        self._watch.stop()
        self._overdue_since = None
        self._out.extend(act.Dump(slot.process, HUNG) for slot in self._inside())
        behind = min(self._inside(), key=lambda slot: slot.step)
        cause = f"no step for {idle:.0f} s"
        rank = self.rank_of(behind)
        if rank is not None and self._failed < behind.generation:
            self._failed = behind.generation
            self._out.append(
                act.TellFailed(behind.generation, rank, None, None, behind.step, cause)
            )
        self._clear_out(behind.generation, cause, now)

    # What follows

    def _advance(self, now: float) -> None:
        if self._ending is None:
            if self.policy.persistent:
                self._fill_slots()
            if self.generation is not None:
                self._follow(self.generation, now)
                self._conclude(self.generation, now)
            self._keep_standbys()
        ending = self._ending
        if ending is not None and not ending.over and not self._alive():
            ending.over = True
            self._out.append(act.Depart(ending.code, ending.status, ending.reason, ending.whole))

    def _fill_slots(self) -> None:
        for slot in self.slots:
            if slot.stage is not Stage.EMPTY:
                continue
            chosen = self._standbys.take()
            if chosen is None:
                slot.process, slot.stage = self._spawn(standby=False), Stage.STARTING
            else:
                slot.process, ready = chosen
                slot.stage = Stage.IDLE if ready else Stage.STARTING
                self._out.append(act.Promote(slot.process))

    def _follow(self, generation: Generation, now: float) -> None:
        """Get out of an older generation and into the newest."""
        number = generation.number
        member = self.member and self._drain is None
        for slot in self.slots:
            if slot.inside and slot.generation < number:
                self._interrupt(slot, generation.reason, now)
            resting = Stage.IDLE if self.policy.persistent else Stage.EMPTY
            outside = slot.stage in (resting, Stage.SPARE, Stage.DONE)
            if member and outside and slot.generation < number:
                self._enter(slot, generation)
        boundary, reason = self._boundary
        if boundary == number:
            for slot in self.slots:
                if slot.stage is Stage.BUSY and not slot.asked:
                    self._ask_to_leave(slot, reason, now)

    def _conclude(self, generation: Generation, now: float) -> None:
        """Say what is true of all slots together."""
        number = generation.number
        mine = [slot for slot in self.slots if slot.generation == number]
        if len(mine) < len(self.slots):
            mine = []
        over = (Stage.DONE, Stage.SPARE)
        out = not any(slot.inside for slot in self.slots)
        if mine and self._running < number and all(slot.entered for slot in mine):
            self._running = number
            self._out.append(act.TellRunning(number))
            if self.policy.persistent:
                self._watch.begin(now)
        if mine and self._finished < number and all(s.stage in over for s in mine):
            self._finished = number
            status = "stopped" if any(s.status == "stopped" for s in mine) else "completed"
            self._out.append(act.TellFinished(number, status, ""))
        asked = self._boundary[0] == number or bool(self._cause)
        if mine and out and asked and max(self._left, self._failed, self._finished) < number:
            self._left = number
            version = max(slot.version for slot in mine)
            if self._drain is None or len(generation.members) > 1:
                self._out.append(act.TellLeft(number, version, self._cause))
        alone = len(generation.members) == 1 and self.member
        if self._drain is not None and out and (self._drained or alone):
            self._end(EXIT_DRAINED, "drained", self._drain.reason, now)

    def _keep_standbys(self) -> None:
        settled = self._steps_since_running >= STEPS_BEFORE_STANDBY * self.slot_count
        undisturbed = self._drain is None and self._ending is None
        if undisturbed and settled and self.ready:
            while len(self._standbys) < self.policy.standby:
                self._standbys.started(self._spawn(standby=True))

    # Small steps

    def _spawn(self, *, standby: bool) -> int:
        self._last_process += 1
        self._out.append(act.Spawn(self._last_process, standby))
        return self._last_process

    def _enter(self, slot: Slot, generation: Generation) -> None:
        if not self.policy.persistent:
            self._last_process += 1
            slot.process = self._last_process
        slot.stage = Stage.BUSY
        slot.generation = generation.number
        slot.entered = not self.policy.persistent
        slot.asked, slot.dumped, slot.deadline = False, False, None
        slot.waits = False
        slot.step, slot.status, slot.message = -1, "", ""
        self._out.append(act.Enter(slot.process, slot.local_rank, generation))

    def _ask_to_leave(self, slot: Slot, reason: str, now: float) -> None:
        slot.asked = True
        if not self.policy.persistent:
            self._interrupt(slot, reason, now)
            return
        last = self._drain is not None
        alone = self.generation is not None and len(self.generation.members) == 1
        self._out.append(act.Boundary(slot.process, slot.generation, reason, last and alone))

    def _interrupt(self, slot: Slot, reason: str, now: float) -> None:
        if slot.stage is not Stage.BUSY:
            return
        self._watch.stop()
        self._overdue_since = None
        slot.stage = Stage.LEAVING
        slot.deadline = now + self.policy.interrupt_seconds
        asked_by = self._drain.signal if self._drain is not None else None
        number = asked_by or signal.SIGTERM
        self._out.append(act.Interrupt(slot.process, slot.generation, reason, number))

    def _inside(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.inside]

    def _vacate(self, slot: Slot, stage: Stage) -> None:
        slot.stage = stage
        slot.deadline = None
        self._watch.stop()
        self._overdue_since = None

    def _clear_out(self, generation: int, reason: str, now: float) -> None:
        for slot in self.slots:
            if slot.generation == generation:
                self._interrupt(slot, reason, now)

    def _fail(self, slot: Slot, how: Exit, message: str, now: float) -> None:
        generation, rank = slot.generation, self.rank_of(slot)
        if self._failed < generation and rank is not None:
            self._failed = generation
            self._out.append(
                act.TellFailed(generation, rank, how.code, how.signal, slot.step, message)
            )
        self._clear_out(generation, f"rank {rank} ended with {how}", now)

    def _kill(self, process: int, reason: str) -> None:
        if process and process not in self._doomed:
            self._doomed.add(process)
            self._out.append(act.Kill(process, reason))

    def _kill_all(self, reason: str) -> None:
        for process in self._alive():
            self._kill(process, reason)

    def _alive(self) -> list[int]:
        return [slot.process for slot in self.slots if slot.process] + list(self._standbys)

    def _end(
        self,
        code: int,
        status: str,
        reason: str,
        now: float,
        *,
        at_once: bool = False,
        whole: bool = False,
    ) -> None:
        if self._ending is not None:
            if at_once:
                self._kill_all(reason)
            return
        patience = self.policy.quit_seconds
        if status == "failed":
            patience = min(patience, self.policy.interrupt_seconds)
        alone = self.generation is None or len(self.generation.members) == 1
        self._ending = _Ending(code, status, reason, now + patience, whole or alone)
        self._watch.stop()
        self._drain_deadline = None
        if at_once:
            self._kill_all(reason)
            return
        for slot in self.slots:
            self._interrupt(slot, reason, now)
            slot.deadline = None
        for process in list(self._standbys):
            self._kill(process, "no longer needed")
        if self.policy.persistent:
            self._out.extend(act.Quit(slot.process) for slot in self.slots if slot.process)

    def _slot_of(self, process: int) -> Slot | None:
        return next((slot for slot in self.slots if process and slot.process == process), None)
