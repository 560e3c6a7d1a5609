"""The training that a job file describes, generation after generation in one process."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch

from trainer.data import Batches, open_batches
from trainer.errors import GenerationOver, WorkerError
from trainer.job import Job, load
from trainer.job.learning_rate import learning_rate
from trainer.mesh import MeshPlan, NodeSlots, plan_job
from trainer.models.factory import build_spec
from trainer.models.spec import ModelSpec
from trainer.worker.ballot import Verdict
from trainer.worker.buffer_notes import Note
from trainer.worker.buffer_sharing import Change
from trainer.worker.build import Training
from trainer.worker.custody import Custody
from trainer.worker.digest import weights_sha256
from trainer.worker.ending import agree_on_the_end
from trainer.worker.environment import take_position
from trainer.worker.groups import local_device
from trainer.worker.inbox import Enter, Inbox
from trainer.worker.outcome import Finished, Outcome, Spared
from trainer.worker.points import Points
from trainer.worker.replicas.first_values import compare_first_values
from trainer.worker.seat import Place, Seat, sit
from trainer.worker.state import ModelState, shard_of
from trainer.worker.step import Applied, train_step
from trainer.worker.survivor import roll_forward

log = logging.getLogger(__name__)


class JobTraining:
    """What stays the same from one generation to the next, and the state brought along."""

    def __init__(
        self, job: Job, spec: ModelSpec, batches: Batches, device: torch.device, pieces: int
    ) -> None:
        self.job = job
        self.spec = spec
        self.batches = batches
        self.device = device
        self.pieces = pieces
        self.past: ModelState | None = None
        self.told: set[Note] = set()
        """What this process has said of the model's buffers."""

    @classmethod
    def described_in(cls, order: Enter) -> Self:
        """Read the order's job. Raises JobError."""
        job = load(Path(order.job))
        pieces = job.pieces(max(node.slots for node in _nodes(order)))
        # Factories are called next, and may ask who they are.
        take_position(order, _plan(job, order, pieces).ranks)
        return cls(
            job,
            build_spec(job),
            open_batches(job, pieces=pieces),
            local_device(order.local_rank),
            pieces,
        )

    @property
    def version(self) -> int:
        """Of the state that this process would bring along now."""
        return 0 if self.past is None else self.past.version

    def enter(self, order: Enter, inbox: Inbox) -> Outcome:
        """Live through one generation. Raises what is wrong with the job or the code itself."""
        plan = _plan(self.job, order, self.pieces)
        take_position(order, plan.ranks)
        if order.rank in plan.spares:
            log.info("rank %d is a spare in generation %d", order.rank, order.generation)
            return Spared(generation=order.generation)
        place = Place(
            rank=plan.ranks.index(order.rank),
            dims={
                "pp": plan.pp,
                "dp_replicate": plan.dp_replicate,
                "dp_shard": plan.dp_shard,
                "tp": plan.tp,
            },
            text=plan.describe(),
            speaks=order.rank == min(rank for rank in order.local_ranks if rank in plan.ranks),
            nodes=[order.nodes[rank] for rank in plan.ranks],
        )
        timeout = self.job.elastic.collective_timeout
        seat = Seat(order, place, inbox, self.device, timeout=timeout)
        return sit(seat, lambda seat: _Passage(self, seat).run(), lambda: self.version)


class _Passage:
    """One rank's passage through one generation: model, state, steps."""

    def __init__(self, around: JobTraining, seat: Seat) -> None:
        self._around = around
        self._job = around.job
        self._seat = seat
        self._last: Applied | None = None
        self._points = Points(
            seat,
            around.job.faults,
            seed=around.job.run.seed,
            version=lambda: around.version,
            poison=self._poison,
        )

    def run(self) -> Finished:
        around, seat = self._around, self._seat
        seat.open()
        # A step that some rank saw agreed on, but not all, counts.
        agreed = roll_forward(around.past, seat.exchange)
        training = Training(
            around.job,
            around.spec,
            around.batches,
            seat.mesh,
            seat.device,
            pieces=around.pieces,
            generation=seat.generation,
        )
        if agreed is not None:
            self._report_again(training, *agreed)
        seat.mark("build")
        with Custody(seat, around.job, identity(around.job)) as custody:
            source = custody.restore(training.state, around.past)
            if source is None:
                rule, names = around.spec.init_rule, training.state.parameters
                compare_first_values(rule, names, seat.exchange)
                training.initialize(around.spec)
            around.past = training.state
            custody.mirror_again(training.state, source)
            seat.mark("state")
            seat.tell_entered(training.state.version, source or "init")
            saved = self._steps(training, custody)
        with seat.waiting():
            digest = weights_sha256(training, seat.exchange)
            end = agree_on_the_end(seat.exchange, saved=saved, digest=digest)
        return Finished(
            generation=seat.generation,
            status="completed" if training.state.version >= self._job.train.steps else "stopped",
            summary={
                "steps": training.state.version,
                "skipped_steps": training.state.numbers.skipped,
                "rollbacks": training.state.numbers.rollbacks,
                "final_loss": None if self._last is None else self._last.verdict.loss,
                "weights_sha256": end.digest,
            },
            agreed=end.saved,
        )

    def _report_again(self, training: Training, version: int, verdict: Verdict) -> None:
        """The node that would have written the last step down may be the one that was lost."""
        applied = Applied(
            step=version,
            verdict=verdict,
            lr=learning_rate(self._job.train, version - 1),
            tokens=training.tokens_per_step,
            seconds=0.0,
        )
        self._report(applied, again=True)

    def _steps(self, training: Training, custody: Custody) -> bool:
        """To the last one. Returns whether all ranks' last save is in storage."""
        job, state, seat = self._job, training.state, self._seat

        def at(point: str) -> None:
            self._points(point)
            if point == "agreed":
                # What was being copied while the step computed is about to change.
                custody.land()

        last = min(job.train.steps, job.train.stop_at or job.train.steps)
        while True:
            if state.numbers.condemned is not None:
                self._go_back(state, custody)
            if state.version >= last:
                break
            self._last = applied = train_step(
                training, wish=seat.wish(), at=at, exchange=seat.exchange
            )
            self._report(applied, waited=custody.waited)
            custody.after_step(state)
            self._tell_changes(training, applied.changes)
            if applied.verdict.bad is not None:
                self._tell_bad_numbers(applied.step, applied.verdict.bad, state.numbers.streak)
            ends, leaves = state.version == last, applied.verdict.leave
            if state.numbers.condemned is not None and not leaves:
                continue
            write = self._is_due(job.checkpoint.every) or (leaves and applied.verdict.save)
            if not ends and (write or leaves or self._is_due(job.elastic.mirror_every)):
                if write:
                    self._points("saving")
                custody.keep(state, write=write, leaves=leaves)
            if leaves and not ends:
                custody.land()
                if applied.verdict.save:
                    custody.drain()
                    raise seat.all_leave()
                raise GenerationOver(seat.generation, seat.leave_reason())
        return custody.finish(state)

    def _go_back(self, state: ModelState, custody: Custody) -> None:
        """Take back an earlier version, because of a step that is passed over from now on."""
        before, version = state.numbers, state.version
        # A state that is filled only in part is of no version.
        self._around.past = None
        source = custody.go_back(state)
        self._around.past = state
        if source is None:
            state.numbers = before.acquitted()
            return
        state.numbers = state.numbers.gone_back(before)
        # The copies there are know nothing of the step that is passed over.
        custody.mirror_again(state, source)
        if self._seat.rank == 0:
            log.warning("back from version %d to %d (%s)", version, state.version, source)
            self._seat.say(
                "event",
                event="state.rolled_back",
                step=before.condemned,
                version=state.version,
                source=source,
            )

    def _is_due(self, every: int) -> bool:
        return bool(every) and self._around.version % every == 0

    def _poison(self) -> None:
        assert self._around.past is not None
        for gradient in self._around.past.gradients()[:1]:
            shard_of(gradient).fill_(math.nan)

    def _tell_bad_numbers(self, step: int, bad: str, streak: int) -> None:
        """Say that a step updated nothing. Raises WorkerError where the job wants to end then."""
        train = self._job.train
        if train.on_bad_numbers == "stop":
            raise WorkerError(f"step {step}: {bad}; train.on_bad_numbers is stop")
        if self._seat.rank == 0:
            log.warning("step %d updates nothing: %s", step, bad)
            self._seat.say("event", event="step.skipped", step=step, reason=bad)
        if streak >= train.bad_steps:
            raise WorkerError(f"step {step}: {bad}, the last of {streak} bad steps in a row")

    def _tell_changes(self, training: Training, changes: Sequence[Change]) -> None:
        """Say once, by name, what the forwards' changes of buffers mean for the bits."""
        for note in training.notes_on(changes):
            if note in self._around.told:
                continue
            self._around.told.add(note)
            log.warning("%s", note.text)
            self._seat.say(
                "event",
                event="buffers.change",
                buffers=list(note.names),
                total=note.total,
                why=note.why,
                notice=note.text,
            )

    def _report(self, applied: Applied, *, again: bool = False, waited: float = 0.0) -> None:
        """`waited`: seconds of the step in which the copy of a state was waited for."""
        fields: dict[str, Any] = {"step": applied.step}
        if again:
            fields["again"] = True
        if self._seat.place.speaks:
            fields |= {
                "loss": applied.verdict.loss,
                "grad_norm": applied.verdict.norm,
                "lr": applied.lr,
                "tokens": applied.tokens,
                "step_seconds": applied.seconds,
                "world_size": self._seat.size,
                "time": time.time(),
            }
            if applied.cpu_seconds is not None:
                fields["cpu_seconds"] = applied.cpu_seconds
            if waited:
                fields["waited_seconds"] = waited
            if applied.verdict.bad is not None:
                fields["skipped"] = applied.verdict.bad
        self._seat.say("step", **fields)


def identity(job: Job) -> dict[str, Any]:
    """What a checkpoint must share with the job that reads it: the model, and nothing else."""
    if job.model.factory is not None:
        made_by: dict[str, Any] = {"factory": job.model.factory}
        return made_by | ({"args": job.model.args} if job.model.args else {})
    sizes = dataclasses.asdict(job.model.sizes())
    return {"model": "llama"} | {key: value for key, value in sizes.items() if key != "dropout"}


def _plan(job: Job, order: Enter, pieces: int) -> MeshPlan:
    """A pure function over the same members on every rank. Raises PlanError."""
    return plan_job(job, _nodes(order), replan=job.elastic.replan, pieces=pieces)


def _nodes(order: Enter) -> Sequence[NodeSlots]:
    return [NodeSlots(node=node, slots=slots) for node, slots, _host in order.members]
