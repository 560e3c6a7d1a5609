"""One node: it attends the rendezvous, runs the workers, and keeps the run directory.

`AgentState` decides; this module carries out. Everything happens in one thread and one loop, in
the order in which it was heard.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rendezvous.generation import Generation
from trainer.agent import actions as act
from trainer.agent import facts, shortage
from trainer.agent.actions import Action
from trainer.agent.attendance import Attendance
from trainer.agent.failure import Failure, headline
from trainer.agent.foresight import Foresight
from trainer.agent.hands import Hands
from trainer.agent.hearing import fact_of
from trainer.agent.identity import NodeName
from trainer.agent.inbox import Inbox
from trainer.agent.inquest import failure_of, last_words
from trainer.agent.keeping import Keeping
from trainer.agent.launch import Launch, Loop
from trainer.agent.leaving import (
    EXIT_COMPLETED,
    EXIT_DRAINED,
    EXIT_FAILED,
    SAME_MOMENT_SECONDS,
    SAME_NOTICE_SECONDS,
    Signals,
    Urgency,
    ends_of,
)
from trainer.agent.outcome import Outcome
from trainer.agent.patience import Patience
from trainer.agent.policy import policy_of
from trainer.agent.probe import notice
from trainer.agent.process import Exit, precede_workers
from trainer.agent.pulse import Pulse
from trainer.agent.readiness import ReadyFile
from trainer.agent.record import Record
from trainer.agent.session_facts import fact_of_event
from trainer.agent.state import AgentState
from trainer.agent.waiting import Waiting
from trainer.agent.worker import Worker
from trainer.channel import Message
from trainer.checkpoint.unsaved import Unsaved, account
from trainer.errors import JobError, NoPort
from trainer.signals import LISTENER, signal_name
from trainer.supervision import awaited, call_later, guarded, start_task
from trainer.telemetry import Progress, RunDirectory
from trainer.telemetry.endings import NodeEnd, read_ends, run_end

log = logging.getLogger(__name__)

STATUS_TICK_SECONDS = 0.5
LOOK_SECONDS = 1.0
"""How often the run directory is asked how others ended, while no service is there to say it."""


class Agent:
    """Runs one `Launch` to its end."""

    def __init__(self, launch: Launch, directory: RunDirectory) -> None:
        self._launch = launch
        self._directory = directory
        self._inbox = Inbox()
        self._name = NodeName(launch.run_id, launch.node)
        loop = launch.workers if isinstance(launch.workers, Loop) else None
        # Where the workers' own output is shown, the progress goes beside it.
        alone = loop is not None and not loop.own
        self._state = AgentState(self._name.name, launch.slots, policy_of(launch))
        self._attendance = Attendance(launch, self._name.name)
        progress = Progress(
            sys.stdout if alone else sys.stderr,
            total_steps=None if loop is None else loop.total_steps,
            live=alone,
        )
        self._record = Record(launch, directory, self._name.name, self._attendance.host, progress)
        self._hands = Hands(
            launch,
            directory,
            ended=self._worker_ended,
            heard=self._worker_said,
            not_started=self._not_started,
            failed=self._broke,
        )
        self._pulse = Pulse(self._hands.workers, self._record.stood_still, failed=self._broke)
        self._keeping: Keeping | None = None
        self._foresight = Foresight(launch.plan, directory.plans) if launch.plan else None
        self._ready_file = ReadyFile.named_in(os.environ)
        self._failures: list[Failure] = []
        self._waiting = Waiting(
            self._record,
            launch.membership.endpoints,
            quiet=lambda: self._state.ending,
            failed=self._broke,
        )
        self._patience = Patience(launch.membership.endpoints, launch.membership.options)
        self._ends: Mapping[str, NodeEnd] = {}
        """How nodes ended, as far as the run directory says; looked for while no service is."""
        self._signals = Signals()
        self._hurried = asyncio.Event()
        self._settling: asyncio.Task[None] | None = None
        """Waits for the last saves, once all workers are done."""
        self._unsaved = ""
        """What was to be saved and is not, as the last line says it."""
        self._outcome: Outcome | None = None
        self._fault: Exception | None = None
        """What ended something that this agent can't do without."""

    async def run(self) -> Outcome:
        """Returns when every worker has ended. Raises JobError when it can't begin."""
        loop = asyncio.get_running_loop()
        signalled = guarded(self._signalled, name="a signal", failed=self._broke)
        LISTENER.attach(lambda *heard: loop.call_soon_threadsafe(signalled, *heard))
        looking = start_task(self._look_for_notice(), name="probe", failed=awaited)
        wondering = start_task(self._look_for_ends(), name="others' ends", failed=awaited)
        try:
            if isinstance(self._launch.workers, Loop):
                self._keeping = self._keep(self._launch.workers)
            self._pulse.begin()
            async with self._attendance:
                await self._carry_out(self._state.begin(time.monotonic()))
                hearing: asyncio.Task[None] | None = None
                while self._outcome is None:
                    if hearing is None and self._state.ready and not self._state.ending:
                        hearing = start_task(self._hear(), name="session events", failed=awaited)
                    await self._turn()
                    for task in (hearing, looking, wondering, self._settling):
                        if task is not None and task.done():
                            task.result()
                    if self._fault is not None:
                        raise self._fault
                if hearing is not None:
                    hearing.cancel()
                await self._attendance.leave(self._outcome.reason)
        finally:
            # What comes from here on changes nothing; what was heard is still told.
            LISTENER.detach()
            self._pulse.end()
            await asyncio.sleep(0)
            looking.cancel()
            wondering.cancel()
            if self._settling is not None:
                self._settling.cancel()
            if self._foresight is not None:
                self._foresight.end()
            self._hands.close()
            if self._keeping is not None:
                await asyncio.to_thread(self._keeping.close)
            self._record.close()
            self._name.release()
        return self._outcome

    async def _turn(self) -> None:
        now = time.monotonic()
        deadline = self._state.next_deadline()
        wait = STATUS_TICK_SECONDS if deadline is None else deadline - now
        fact = await self._inbox.get(min(wait, STATUS_TICK_SECONDS))
        now = time.monotonic()
        if isinstance(fact, facts.Began) and self._state.begins(fact.generation):
            try:
                await self._on_generation(fact.generation)
            except NoPort as error:
                fact = facts.NodeBroke(f"node {self._name.name} can't go on: {error}")
        if isinstance(fact, facts.BoundaryAsked) and self._keeping is not None:
            self._keeping.without(fact.going, self._state.generation)
        await self._carry_out(self._state.step(fact, now))
        if self._state.waiting:
            self._record.orphaned()
        self._lose_patience(now)
        self._ready_file.set(self._state.inside_generation and not self._state.ending)
        if self._record.flush_status(self._state.word, self._hands.workers()):
            self._attendance.report({"state": self._state.word, "step": str(self._record.step)})

    def _lose_patience(self, now: float) -> None:
        """Leave as after notice where no service ends the waiting: none is there, or wants us."""
        reason = self._patience.over(
            unheard=self._state.unheard,
            joins=self._state.generation is None,
            waits=self._state.waiting,
            now=now,
            refusal=self._waiting.refusal,
        )
        if reason:
            self._drain(reason)

    def _broke(self, error: Exception) -> None:
        """Something that runs beside the main flow has failed, and nothing goes on without it."""
        self._fault = self._fault or error
        self._inbox.put(facts.Tick())

    # Hearing

    async def _hear(self) -> None:
        async for event in self._attendance.events(self._record.last_generation):
            trains = self._state.inside_generation
            fact = fact_of_event(event, self._record, self._waiting, trains=trains)
            if fact is not None:
                self._inbox.put(fact)

    def _signalled(self, number: int, at: float) -> None:
        name = signal_name(number)
        # What is to be done comes before what is to be shown, as the console may be gone.
        match self._signals.hear(at):
            case Urgency.IN_ORDER:
                how = "ending already" if self._state.ending else "leaving in order"
                later = f"once more, {SAME_NOTICE_SECONDS:g} s later or more, ends at once"
                self._drain(f"{name} at {self._name.name}", number)
                self._record.notice(f"{name}: {how}; {later}")
            case Urgency.AT_ONCE:
                self._hurried.set()
                self._inbox.put(facts.Hurry())
                self._record.notice(f"{name} again: ending at once")
            case Urgency.NOTHING_MORE:
                pass

    def _drain(self, reason: str, number: int | None = None) -> None:
        self._record.event("node.drain", reason=reason)
        self._inbox.put(facts.DrainAsked(reason, self._launch.drain_seconds, number))

    async def _look_for_notice(self) -> None:
        if self._launch.probe is not None:
            reason = await notice(self._launch.probe)
            self._drain(reason)
            self._record.notice(f"{reason}: leaving in order")

    async def _look_for_ends(self) -> None:
        """Find in the run directory that the run is over, where no service is there to say it."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._state.wonders:
                continue
            self._ends = await asyncio.to_thread(read_ends, self._directory)
            generation = self._state.generation
            members = [m.node for m in generation.members] if generation is not None else []
            since = (
                generation.number if generation is not None else self._record.last_generation + 1
            )
            found = run_end(self._ends, members, since)
            if found is not None:
                self._inbox.put(facts.RunEnded(found.code, found.status, found.reason))

    def _keep(self, workers: Loop) -> Keeping:
        try:
            keeping = Keeping(
                self._name.name,
                self._attendance.host if self._launch.membership.endpoints else None,
                token=self._launch.membership.token,
                storage_options=workers.storage_options,
                topology=workers.topology,
                mirrors=workers.mirrors,
                report=self._report,
                saved=self._hands.saved,
            )
        except OSError as error:
            raise JobError(f"no shared memory or port for the workers' state: {error}") from error
        self._attendance.labels |= keeping.labels
        self._hands.staging = keeping.directory
        return keeping

    def _report(self, event: str, fields: dict[str, Any]) -> None:
        """What the keeping of staged state has to say."""
        self._record.event(event, **fields)
        if event == "staging.short":
            self._record.notice(f"remesh: {fields['reason']}")

    def _worker_said(self, worker: Worker, message: Message) -> None:
        match message.get("type"):
            case "step":
                message = self._pulse.marked(message)
            case "staged":
                if self._keeping is not None and self._state.generation is not None:
                    self._keeping.staged(Path(message["path"]), self._state.generation)
            case "part_lost":
                if self._keeping is not None:
                    self._keeping.part_lost(message)
            case "unsaved":
                if self._keeping is not None:
                    self._keeping.failed(
                        Unsaved(
                            version=message["version"],
                            generation=message["generation"],
                            error=message["error"],
                            url=message["url"],
                            options=message["options"],
                        )
                    )
        fact = fact_of(worker, message)
        self._record.heard(worker, message)
        if fact is not None:
            self._inbox.put(fact)

    def _worker_ended(self, worker: Worker, how: Exit) -> None:
        leaves = self._state.draining or self._state.ending
        if worker.talks or leaves or not ends_of(how, self._launch.signals):
            self._worker_gone(worker, how)
        else:
            # Who signals every process of a run means us too, and may come to us last.
            call_later(SAME_MOMENT_SECONDS, self._worker_gone, worker, how, failed=self._broke)

    def _worker_gone(self, worker: Worker, how: Exit) -> None:
        said, error = "", ""
        if worker.rank is None and not (worker.was_ready and self._state.ending):
            said, error = last_words(worker, how, self._name.name, self._directory)
        of_notice = not worker.talks and self._state.draining
        expected = of_notice or self._state.ending
        failure = None if expected else failure_of(worker, how, self._name.name)
        self._record.exited(worker, how, expected=failure is None)
        generation = self._state.generation
        if self._keeping is not None and generation is not None and worker.local_rank is not None:
            self._keeping.worker_ended(worker.local_rank, generation)
        placed = worker.rank is not None
        if failure is not None and (placed or not (worker.standby or worker.was_ready)):
            if self._failures and self._failures[-1].generation != failure.generation:
                self._failures.clear()
            self._failures.append(failure)
        if failure is not None and not worker.talks:
            said = headline(failure.message)
        self._inbox.put(facts.Exited(worker.number, how, said, error))

    # Doing

    def _not_started(self, process: int, error: OSError) -> None:
        """It is taken for one that has ended."""
        said = shortage.told(error)
        self._record.event("worker.not_started", reason=said)
        exited = facts.Exited(process, Exit(1, None), said)
        call_later(shortage.PAUSE_SECONDS, self._inbox.put, exited, failed=self._broke)

    async def _on_generation(self, generation: Generation) -> None:
        self._waiting.over()
        if self._foresight is not None:
            self._foresight.end()
        first = self._state.generation is None
        await self._attendance.began(generation)
        self._record.generation(generation)
        if self._keeping is None:
            return
        self._keeping.began(generation)
        kept = self._launch.kept(generation) if first else None
        if kept is not None:
            self._keeping.look_for_room(kept, generation)

    async def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case act.Spawn(process, standby):
                    self._hands.spawn(process, standby=standby)
                case act.Promote(process):
                    self._hands.promote(process)
                case act.Enter(process, local_rank, generation):
                    hosts = local_rank == 0 and generation.group_rank(self._name.name) == 0
                    socket = self._attendance.take_socket(generation.number) if hosts else None
                    worker = self._hands.enter(
                        process, local_rank, generation, self._name.name, socket
                    )
                    if worker is not None:
                        self._record.began(worker)
                case act.Interrupt(process, generation_number, reason, number):
                    self._hands.interrupt(process, generation_number, reason, number)
                case act.Boundary(process, generation_number, reason, save, stop):
                    self._hands.boundary(process, generation_number, reason, save=save, stop=stop)
                case act.Dump(process, event):
                    self._record.event(event, rank=self._hands.rank(process))
                    self._hands.dump(process)
                case act.Kill(process, reason):
                    self._hands.kill(process)
                    log.info("killed process %d: %s", process, reason)
                case act.Quit(process):
                    self._hands.quit(process)
                case act.Show(text):
                    self._record.notice(text)
                case act.Depart():
                    if action.save_seconds:
                        await self._save(action.save_seconds)
                    await self._look_for_unsaved(action)
                    if self._state.unheard:
                        self._ends = await asyncio.to_thread(read_ends, self._directory)
                    self._depart(action)
                case act.TellFinished() if action.status != "failed" and self._keeping is not None:
                    self._settle(self._keeping, action)
                case act.TellFinished():
                    await self._tell_finished(action)
                case _:
                    if isinstance(action, act.TellRunning):
                        self._look_ahead()
                    if isinstance(action, act.TellLeft) and action.going:
                        await self._hand_over()
                    await self._attendance.tell(action)

    def _settle(self, keeping: Keeping, finished: act.TellFinished) -> None:
        if self._settling is not None:
            self._settling.cancel()
        self._settling = start_task(
            self._tell_when_saved(keeping, finished), name="last saves", failed=awaited
        )

    async def _tell_when_saved(self, keeping: Keeping, finished: act.TellFinished) -> None:
        """The job is done here once what it was to save is saved; it has failed where that has."""
        unsaved = await keeping.settled()
        if unsaved is None:
            await self._tell_finished(finished)
            return
        steps = f"{self._record.step} steps are done, but "
        self._unsaved = await asyncio.to_thread(account, unsaved)
        self._inbox.put(facts.Unsaved(finished.generation, steps + self._unsaved))

    async def _tell_finished(self, finished: act.TellFinished) -> None:
        """To the service, and to agents that may hear no service."""
        code = EXIT_FAILED if finished.status == "failed" else EXIT_COMPLETED
        self._record.node_end = NodeEnd(
            generation=finished.generation,
            status=finished.status,
            reason=finished.reason or "all ranks are done",
            code=code,
            whole=finished.whole,
            gone=False,
        )
        await self._attendance.tell(finished)

    def _look_ahead(self) -> None:
        generation = self._state.generation
        if self._foresight is not None and generation is not None and self._record.keeper:
            self._foresight.begin(generation)

    async def _hand_over(self) -> None:
        """A node that goes says so once another one has its state."""
        if self._keeping is not None:
            await self._keeping.handed_over(self._launch.drain_seconds)

    async def _save(self, seconds: float) -> None:
        """Nobody goes on with this node's state: what is staged of it goes to storage."""
        if self._keeping is None:
            return
        saving = start_task(
            asyncio.to_thread(self._keeping.salvage), name="salvage", failed=awaited
        )
        hurried = start_task(self._hurried.wait(), name="hurry", failed=awaited)
        await asyncio.wait({saving, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        self._keeping.give_up()
        if told := await saving:
            self._record.notice(told)

    async def _look_for_unsaved(self, end: act.Depart) -> None:
        """A run that is left, with nobody to go on with it, says what of it is not saved."""
        unsaved = None if self._keeping is None else self._keeping.unsaved
        if unsaved is not None and end.code == EXIT_DRAINED and (end.whole or end.save_seconds):
            self._unsaved = await asyncio.to_thread(account, unsaved)

    def _depart(self, end: act.Depart) -> None:
        generation = self._state.generation
        self._record.node_end = NodeEnd(
            generation=0 if generation is None else generation.number,
            status=end.status,
            reason=end.reason,
            code=end.code,
            # Who drains leaves the run to others, even where it can't tell them.
            whole=end.whole and end.status != "drained",
            gone=True,
        )
        self._record.flush_status(end.status, self._hands.workers(), force=True)
        first = None if generation is None else self._ends.get(generation.members[0].node)
        summary = self._record.end(end.status, end.reason, whole=end.whole, first=first)
        self._outcome = Outcome(
            code=end.code,
            status=end.status,
            reason=end.reason,
            failures=tuple(self._failures) if end.status == "failed" else (),
            summary=summary,
            unsaved=self._unsaved,
        )


async def run_agent(launch: Launch, directory: RunDirectory) -> Outcome:
    """Run one node's share of a job to its end. Raises JobError when it can't begin."""
    precede_workers()
    return await Agent(launch, directory).run()
