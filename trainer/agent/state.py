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

from dataclasses import dataclass

from rendezvous.generation import Generation
from trainer.agent import actions as act
from trainer.agent import facts, leaving
from trainer.agent.actions import Action
from trainer.agent.facts import Fact
from trainer.agent.hang import describe
from trainer.agent.last_word import OwnEnd
from trainer.agent.leaving import (
    EXIT_COMPLETED,
    EXIT_DRAINED,
    EXIT_FAILED,
    EXIT_USAGE,
    Ending,
    Notice,
    Stop,
)
from trainer.agent.orders import Orders
from trainer.agent.process import Exit
from trainer.agent.slot import Slot, Stage
from trainer.agent.starts import SLOW_START_SECONDS

SAVE_SECONDS = 1800.0
STUCK, HUNG = "worker.stuck", "worker.hung"


@dataclass(slots=True)
class AgentState(Orders):
    """Takes in one fact after the other; see the module."""

    # What happens

    def begin(self, now: float) -> list[Action]:
        """Start what can start before anything is agreed."""
        self._slow_at = now + SLOW_START_SECONDS if self.policy.persistent else None
        return self.step(facts.Tick(), now)

    def step(self, fact: Fact, now: float) -> list[Action]:
        """Take in one fact; the actions that follow from it, in order."""
        self._out = []
        match fact:
            case facts.Began(generation):
                self._on_began(generation)
            case facts.BoundaryAsked(generation):
                if generation == self._number:
                    self._boundary = fact
            case facts.Reserved(generation, reason):
                self._over = max(self._over, generation)
                self._clear_out(generation, reason, now)
            case facts.Ended(status, reason):
                self._on_ended(status, reason, now)
            case facts.TurnedAway(reason):
                code = EXIT_USAGE if self.generation is None else EXIT_FAILED
                self._end(code, "failed", reason, now)
            case facts.NodeBroke(reason):
                self._end(EXIT_FAILED, "failed", reason, now)
            case facts.DrainAsked():
                self._on_drain(fact, now)
            case facts.DrainDone():
                if self._notice is not None:
                    self._notice.done = fact
            case facts.ServiceLost():
                self._last_word.lost(now)
            case facts.ServiceBack():
                self._last_word.back()
            case facts.RunEnded():
                self._on_run_ended(fact, now)
            case facts.Hurry():
                self._end(EXIT_DRAINED, "drained", "asked twice to end", now, at_once=True)
            case facts.Unsaved(generation, reason):
                if generation == self._number and self._ending is None:
                    self._give_up(EXIT_FAILED, reason, now)
            case facts.Exited():
                self._on_exit(fact, now)
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

    # One fact at a time

    def _on_began(self, generation: Generation) -> None:
        if self.generation is None or generation.number > self.generation.number:
            self.generation = generation
            self._cause = ""
            self._last_word.goes_on()
            if self._last_word.agreed and self.member:
                # There is nothing left to do in it, and whoever is in it too is not waited for.
                self._tell_finished(generation.number, self._last_word.agreed, whole=True)

    def _on_run_ended(self, found: facts.RunEnded, now: float) -> None:
        if not self.wonders:
            return
        if self._last_word.own is not None and found.code == EXIT_COMPLETED:
            self._last_word.run_done(found.status, found.reason)
            return
        asked_for = found.code == EXIT_COMPLETED
        code, word = leaving.how_to_end(found.status, drains=self.draining, asked_for=asked_for)
        self._end(code, word, found.reason, now, whole=True, save=code == EXIT_DRAINED)

    def _on_ended(self, status: str, reason: str, now: float) -> None:
        if status == "stopped" and self._last_word.agreed:
            # The order came when there was nothing left to stop.
            status = self._last_word.agreed
        asked_for = any(slot.status == "stopped" for slot in self.slots)
        code, word = leaving.how_to_end(status, drains=self.draining, asked_for=asked_for)
        inside = any(slot.inside and slot.generation == self._number for slot in self.slots)
        if code != EXIT_DRAINED:
            self._end(code, word, reason, now, whole=True)
        elif inside and not self.waiting and self.policy.persistent and self._ending is None:
            # All workers leave at one boundary and save together, as every node hears of this.
            self._stop = Stop(code, word, reason, now + self.policy.stop_seconds)
            self._boundary = facts.BoundaryAsked(self._number, reason)
        else:
            self._end(code, word, reason, now, whole=True, save=True)

    def _on_drain(self, asked: facts.DrainAsked, now: float) -> None:
        if self._notice is not None or self._ending is not None:
            return
        self._notice = Notice(asked)
        if self.generation is None or not self.member:
            self._end(EXIT_DRAINED, "drained", asked.reason, now)
            return
        self._notice.ends = now + asked.grace
        if (own := self._last_word.pending) is not None:
            self._end_by_itself(own, now)
        elif not self._alone:
            self._out.append(act.TellDrain(asked.grace, asked.reason))

    def _on_hello(self, process: int) -> None:
        self._slow_at = None
        self._starts.one_is_ready()
        self._standbys.said_hello(process)
        slot = self._slot_of(process)
        if slot is not None and slot.stage is Stage.STARTING:
            slot.stage = Stage.IDLE

    def _on_word(self, slot: Slot, fact: Fact, now: float) -> None:
        match fact:
            case facts.Broke(_process, code, message, error):
                slot.message, slot.error = message, error
                if code is not None and self.generation is not None and self._ending is None:
                    self._give_up(code, message, now)
            case facts.Entered(_process, generation, version) if generation == slot.generation:
                self._standbys.go_on_from(version)
                slot.entered, slot.step = True, version
            case facts.Stepped(_process, generation, step) if generation == slot.generation:
                before = min(other.step for other in self._inside())
                slot.step, self._alike.stepped = step, True
                if generation == self._running and before < min(s.step for s in self._inside()):
                    self._watch.step(now)
            case facts.Waits(_process, generation, on) if generation == slot.generation:
                slot.waits = on
                self._watch.hold(now, held=any(other.waits for other in self._inside()))
            case facts.Left(_process, generation, version, error, stopped) if (
                generation == slot.generation and slot.inside
            ):
                stage, slot.version, slot.stopped = slot.stage, version, stopped
                self._vacate(slot, Stage.IDLE)
                if error and stage is Stage.BUSY:
                    self._cause = self._cause or f"rank {self.rank_of(slot)}: {error}"
                    if self._alike.held is None:
                        self._clear_out(generation, self._cause, now)
            case facts.Spared(_process, generation) if generation == slot.generation:
                self._vacate(slot, Stage.SPARE)
                slot.entered = True
            case facts.Finished(_process, generation, status, agreed) if (
                generation == slot.generation
            ):
                self._vacate(slot, Stage.DONE)
                slot.status, slot.agreed = status, agreed
            case _:
                pass  # an echo of a generation that is over

    def _on_exit(self, exited: facts.Exited, now: float) -> None:
        process, how = exited.process, exited.exit
        ours = process in self._doomed
        self._doomed.discard(process)
        if process in self._standbys:
            if not self._standbys.ended(process) and not ours:
                self._show(self._starts.standby(how, exited.said))
            return
        slot = self._slot_of(process)
        if slot is None:
            return
        stage, number = slot.stage, slot.generation
        slot.process = 0
        slot.message = slot.message or exited.said
        self._standbys.came_to(slot.step)
        self._vacate(slot, Stage.EMPTY)
        if self._ending is not None:
            return
        if stage is Stage.DONE and slot.agreed:
            slot.stage = Stage.DONE
        elif not self.policy.persistent and how.ok and stage is Stage.BUSY:
            slot.stage, slot.status = Stage.DONE, "completed"
        elif stage is Stage.STARTING:
            why = self._starts.failed(slot.local_rank, how, exited.said, exited.error)
            if why:
                self._end(EXIT_USAGE if how.ok else EXIT_FAILED, "failed", why, now)
            else:
                self._show(self._starts.retry(how, exited.said))
        elif number != self._number:
            pass
        elif stage is Stage.BUSY or (stage is Stage.DONE and self.policy.persistent):
            self._fail(slot, how, now)
        elif stage is Stage.LEAVING and self._cause and not ours:
            # Its death is why the others had left, only that they were heard first.
            self._fail(slot, how, now)

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
                given = self.policy.interrupt_seconds
                self._overdue([slot], f"generation {slot.generation}", given, self._asked_by)
                self._kill(slot.process, "did not leave the generation in time")
        if (notice_over := self._notice_over()) is not None and now >= notice_over:
            self._on_notice_over(now)
        if self._slow_at is not None and now >= self._slow_at:
            self._slow_at = None
            self._show(self._starts.slow())
        self._look_for_a_hang(now)
        if self._ending is not None and now >= self._ending.deadline:
            still = [slot for slot in self.slots if slot.process]
            self._overdue(still, "", self._ending.patience, "")
            self._kill_all("did not end in time")
            self._ending.deadline = float("inf")

    def _on_notice_over(self, now: float) -> None:
        assert self._notice is not None
        if self._ending is None and self._notice.ends is not None and now < self._notice.ends:
            whole = self._last_word.unheard
            reason = self._notice.asked.reason
            self._end(EXIT_DRAINED, "drained", reason, now, whole=whole, save=True)
            return
        self._notice.ends = None
        grace = self._notice.asked.grace
        reason = f"the notice ran out before the state was handed over, {grace:g} s after it came"
        self._show(reason)
        self._end(EXIT_DRAINED, "drained", reason, now, at_once=True)

    def _look_for_a_hang(self, now: float) -> None:
        """Ends the generation when no step was done for too long: whoever does not come out of it
        by itself is the one that hangs, and is replaced."""
        if not self._inside() or not self._watch.overdue(now):
            return
        cause = describe(self._watch.idle(now), [slot.step for slot in self._inside()])
        self._watch.stop()
        self._out.extend(act.Dump(slot.process, HUNG) for slot in self._inside())
        behind = min(self._inside(), key=lambda slot: slot.step)
        rank = self.rank_of(behind)
        if rank is not None and self._failed < behind.generation:
            self._failed = behind.generation
            self._out.append(
                act.TellFailed(behind.generation, rank, None, None, behind.step, cause)
            )
            self._may_be_the_end(None, cause, now)
        self._clear_out(behind.generation, cause, now)

    # What follows

    def _advance(self, now: float) -> None:
        self._settle(now)
        if self._ending is None:
            self._leave_if_forsaken()
            leaving = self._stop is not None or self._notice is not None
            if self.policy.persistent and not leaving and self._alike.held is None:
                self._fill_slots()
            if self.generation is not None:
                self._follow(self.generation, now)
                self._conclude(self.generation, now)
            self._keep_standbys()
        if (stop := self._stop) is not None and (not self._inside() or now >= stop.deadline):
            self._end(stop.code, stop.status, stop.reason, now, whole=True, save=True)
        if self._ending is None:
            self._show(self._last_word.notice())
            if (own := self._last_word.due(now)) is not None:
                self._end_by_itself(own, now)
        if self._ending is not None and not self._ending.over and not self._alive():
            self._out.append(self._ending.depart(now))

    def _follow(self, generation: Generation, now: float) -> None:
        """Get out of an older generation and into the newest."""
        number, member = generation.number, self.member and self._notice is None
        if self._last_word.agreed:
            return
        for slot in self.slots:
            if slot.inside and slot.generation < number:
                self._interrupt(slot, generation.reason, now)
            resting = Stage.IDLE if self.policy.persistent else Stage.EMPTY
            outside = slot.stage in (resting, Stage.SPARE, Stage.DONE)
            if member and outside and slot.generation < number:
                self._enter(slot, generation)
        if self._boundary.generation == number:
            for slot in self.slots:
                if slot.stage is Stage.BUSY and not slot.asked:
                    self._ask_to_leave(slot, self._boundary.reason, now)

    def _conclude(self, generation: Generation, now: float) -> None:
        """Say what is true of all slots together."""
        number = generation.number
        mine = self.slots if all(slot.generation == number for slot in self.slots) else []
        over = (Stage.DONE, Stage.SPARE)
        out = not any(slot.inside for slot in self.slots)
        if mine and self._running < number and all(slot.entered for slot in mine):
            self._running = number
            self._out.append(act.TellRunning(number))
            if self.policy.persistent:
                self._watch.begin(now)
        # Who knows that all are done knows it of those that were cut off in the last exchange.
        agreed = any(s.agreed for s in mine)
        done = all(s.stage in over for s in mine) or (out and agreed)
        if mine and self._finished < number and done:
            self._on_done(number, agreed or (self._alone and not self.policy.persistent), now)
        asked = self._boundary.generation == number or bool(self._cause)
        # Who is on the way out does not begin a generation that it finds itself in, and says so.
        refuses = self._notice is not None and self.member and not mine
        said = max(self._left, self._failed, self._finished) >= number
        if out and not said and (refuses or (mine and asked)):
            self._left = number
            version = max(slot.version for slot in self.slots)
            if self._stop is None and (self._notice is None or not self._alone):
                going = self._notice is not None or self.node in self._boundary.going
                stepped = self._alike.stepped
                self._out.append(act.TellLeft(number, version, self._cause, going, stepped))
        stopped = next((s.stopped for s in mine if s.stopped), "")
        if mine and out and stopped and self._stop is None and self._last_word.own is None:
            self._last_word.all_stopped(stopped, now)
        # Where all are done, the job is about to end: that is what is waited for then.
        may_go = out and self._finished < number
        if (notice := self._notice) is not None and may_go and (notice.done or self._forsaken):
            save = notice.done is None or not notice.done.handed_over
            whole = self._last_word.unheard
            reason = notice.asked.reason
            self._end(EXIT_DRAINED, "drained", reason, now, whole=whole, save=save)

    def _on_done(self, number: int, agreed: bool, now: float) -> None:
        """All workers of this node are done. `agreed`: and those of all others, for certain."""
        status = "stopped" if any(s.status == "stopped" for s in self.slots) else "completed"
        self._tell_finished(number, status, whole=agreed)
        if agreed:
            self._last_word.all_done(status, now)
        elif any(slot.stage is Stage.DONE for slot in self.slots):
            self._last_word.node_done(status, now)

    def _tell_finished(self, number: int, status: str, *, whole: bool) -> None:
        self._finished = number
        self._out.append(act.TellFinished(number, status, "", whole))

    def _leave_if_forsaken(self) -> None:
        """Nobody asks a node to leave that has to go while no service is there."""
        if self._notice is not None and self._forsaken and self._boundary.generation < self._number:
            self._boundary = facts.BoundaryAsked(self._number, self._notice.asked.reason)

    # Small steps

    def _give_up(self, code: int, reason: str, now: float) -> None:
        """The job is over for everybody: no other generation would mend what is wrong."""
        self._out.append(act.TellFinished(self._number, "failed", reason))
        self._end(code, "failed", reason, now, whole=True)

    def _fail(self, slot: Slot, how: Exit, now: float) -> None:
        generation, rank = slot.generation, self.rank_of(slot)
        error = "" if self._alike.stepped else slot.error
        why = f"rank {rank} ended with {how}"
        if self._ends_quietly():
            self._cause = self._cause or why
            self._clear_out(generation, why, now)
        elif self._failed < generation and rank is not None:
            self._failed = generation
            step, message = slot.step, slot.message
            told = act.TellFailed(generation, rank, how.code, how.signal, step, message, error)
            self._may_be_the_end(how, f"{why}{f': {message}' if message else ''}", now)
            self._alike.begin(told, slot.local_rank, why, now)
            self._settle(now)
        elif self._alike.held is not None:
            self._alike.hear(slot.local_rank, error)
        else:
            self._clear_out(generation, why, now)

    def _settle(self, now: float) -> None:
        """Tell of the first failure once it is known whether the others fail alike."""
        held, deadline = self._alike.held, self._alike.deadline
        if held is None or deadline is None:
            return
        if self._ending is not None or held.generation < self._number:
            self._alike.drop()
            return
        if self._ends_quietly():
            self._cause = self._cause or self._alike.why
            self._alike.drop()
            self._clear_out(held.generation, self._cause, now)
            return
        busy = any(slot.stage is Stage.BUSY for slot in self.slots)
        if held.error and busy and now < deadline:
            return
        why = self._alike.why
        spares = sum(slot.stage is Stage.SPARE for slot in self.slots)
        self._out.append(self._alike.release(self.slot_count - spares))
        self._clear_out(held.generation, why, now)

    def _end(
        self,
        code: int,
        status: str,
        reason: str,
        now: float,
        *,
        at_once: bool = False,
        whole: bool = False,
        save: bool = False,
    ) -> None:
        if self._ending is not None:
            if at_once:
                self._ending.save_until = 0.0
                self._kill_all(reason)
            return
        patience = self.policy.quit_seconds
        if status == "failed":
            patience = min(patience, self.policy.interrupt_seconds)
        whole = whole or self.generation is None or self._alone
        self._ending = Ending(code, status, reason, now + patience, patience, whole)
        if save and self.policy.persistent:
            ends = self._notice.ends if self._notice is not None else None
            self._ending.save_until = now + SAVE_SECONDS if ends is None else ends
        self._watch.stop()
        if at_once:
            self._kill_all(reason)
            return
        for slot in self.slots:
            self._interrupt(slot, reason, now)
            slot.deadline = None
        for process in list(self._standbys):
            self._kill(process, "no longer needed")
        if self.policy.persistent:
            for slot in self.slots:
                if slot.stage is Stage.STARTING:  # It holds nothing, and hears nothing yet.
                    self._kill(slot.process, "no longer needed")
                elif slot.process:
                    self._out.append(act.Quit(slot.process))

    def _may_be_the_end(self, how: Exit | None, cause: str, now: float) -> None:
        """A rank of ours has failed."""
        assert self.generation is not None
        self._last_word.failed(how, self.generation.restarts, cause, now)

    def _end_by_itself(self, own: OwnEnd, now: float) -> None:
        self._show(own.reason)
        self._end(own.code, own.status, own.reason, now, whole=own.whole, save=own.save)
