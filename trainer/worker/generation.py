"""One generation, as one rank lives it: groups, model, state, steps, and the way out."""

from __future__ import annotations

import dataclasses
import gc
import logging
import math
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from trainer.channel import WorkerEnd
from trainer.checkpoint.checkpointer import Checkpointer
from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.keep import Keep
from trainer.checkpoint.stager import Staged
from trainer.data import Batches
from trainer.errors import CheckpointError, GenerationOver, WorkerError
from trainer.job import Job
from trainer.mesh import MeshPlan
from trainer.models.spec import ModelSpec
from trainer.worker.ballot import Verdict
from trainer.worker.build import Training
from trainer.worker.digest import weights_sha256
from trainer.worker.faults import POINTS, Faults, Here
from trainer.worker.groups import process_groups
from trainer.worker.inbox import Enter, Inbox
from trainer.worker.interrupt import Interruption
from trainer.worker.learning_rate import learning_rate
from trainer.worker.mirrors import find_mirrors
from trainer.worker.restore import Held, restore
from trainer.worker.state import ModelState, plain_values, shard_of
from trainer.worker.step import Applied, train_step
from trainer.worker.survivor import roll_forward

log = logging.getLogger(__name__)

LOST_CONTACT = ("gloo", "NCCL", "Connection", "Broken pipe", "Socket")
"""Words of the messages with which torch's collectives tell that a peer is gone."""


BROKEN_GROUP = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The generation ended before the job did."""

    version: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The job is done (`completed`), or has come to `train.stop_at` (`stopped`)."""

    status: str
    summary: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What stays the same in this process from one generation of a job to the next."""

    path: str
    job: Job
    spec: ModelSpec
    batches: Batches
    device: torch.device
    channel: WorkerEnd
    inbox: Inbox
    pieces: int


class GenerationRun:
    """One rank's passage through one generation.

    `past` is the state that this process brings along; afterwards, what it leaves with. One rank
    of each node tells its agent what a step came to, so that any agent can write it down.
    """

    def __init__(
        self,
        order: Enter,
        plan: MeshPlan,
        rank: int,
        around: Surroundings,
        past: ModelState | None,
    ) -> None:
        self._order = order
        self._plan = plan
        self._rank = rank
        self._around = around
        self._speaks = plan.ranks.index(order.rank) == min(
            plan.ranks.index(rank) for rank in order.local_ranks if rank in plan.ranks
        )
        self._interruption = Interruption(order.generation)
        self._last: Applied | None = None
        self._staged: Staged | None = None
        self._faults = Faults(
            around.job.faults,
            seed=around.job.run.seed,
            marks=Path(order.run_directory) / "faults",
            poison=self._poison,
            disconnect=lambda: self._interruption.strike("a fault that the job asked for"),
        )
        self.past = past

    def __call__(self) -> Left | Finished:
        """Live through the generation. Raises what is wrong with the job or the code itself."""
        self._around.inbox.attach(self._interruption)
        try:
            return self._train()
        except GenerationOver as over:
            return self._left("boundary", over.reason)
        except Exception as error:
            # Once the generation is over its sockets are cut, and anything may come of that.
            over_because = self._interruption.reason
            if over_because is not None:
                return self._left("interrupted", over_because)
            if lost_contact(error):
                return self._left("lost contact", str(error))
            raise
        finally:
            self._around.inbox.detach()
            self._finish_copy()
            gc.collect()

    def _finish_copy(self) -> None:
        """Whatever ended the generation: what is being copied must not change before it is."""
        try:
            self._land()
        except (RuntimeError, OSError, CheckpointError) as error:
            log.warning("the state could not be staged: %s", error)

    def _left(self, reason: str, detail: str) -> Left:
        version = 0 if self.past is None else self.past.version
        return Left(version=version, reason=reason, detail=detail)

    def _train(self) -> Finished:
        around, order = self._around, self._order
        began = time.perf_counter()
        with process_groups(
            order.store,
            order.store_socket,
            rank=self._rank,
            plan=self._plan,
            device=around.device,
            timeout=timedelta(seconds=around.job.elastic.collective_timeout),
            interruption=self._interruption,
        ) as mesh:
            exchange = Exchange(self._rank, self._plan.size, dist.group.WORLD)
            grouped = time.perf_counter()
            agreed = roll_forward(self.past, exchange)
            training = Training(
                around.job, around.spec, around.batches, mesh, around.device, pieces=around.pieces
            )
            if agreed is not None:
                self._report_again(training, *agreed)
            built = time.perf_counter()
            checkpointer = self._checkpointer()
            source = self._restore(training, checkpointer, exchange)
            restored = time.perf_counter()
            around.channel.send(
                {
                    "type": "entered",
                    "generation": order.generation,
                    "mesh": self._plan.describe(),
                    "version": training.state.version,
                    "source": source,
                    "seconds": {
                        "groups": grouped - began,
                        "build": built - grouped,
                        "state": restored - built,
                    },
                }
            )
            return self._steps(training, checkpointer)

    def _report_again(self, training: Training, version: int, verdict: Verdict) -> None:
        """The node that would have written the last step down may be the one that was lost."""
        applied = Applied(
            step=version,
            verdict=verdict,
            lr=learning_rate(self._around.job.train, version - 1),
            tokens=training.tokens_per_step,
            seconds=0.0,
        )
        self._report(applied, again=True)

    def _restore(self, training: Training, checkpointer: Checkpointer, exchange: Exchange) -> str:
        """Fill the state from the nearest whole source; returns which it was."""
        source = restore(
            training.state,
            self._held,
            checkpointer,
            node=self._order.node,
            exchange=exchange,
            device=training.device,
        )
        if source is None:
            training.initialize(self._around.spec)
        else:
            self._interruption.check()
        self.past = training.state
        if source in ("peers", "mirror") and self._around.job.elastic.mirror_every:
            # The copies of the ranks that were lost are to be had in one place only now.
            self._keep(training, checkpointer, write=False)
        return source or "init"

    def _held(self) -> list[Held]:
        """This rank's own state from before, and its share of the node's mirrors."""
        staging, past, order = self._staging(), self.past, self._order
        held = (
            []
            if staging is None
            else find_mirrors(staging, turn=order.local_rank, turns=order.local_world_size)
        )
        if past is not None:
            held.append(Held(key="past", kind="worker", version=past.version, tensors=past.local))
        return held

    def _checkpointer(self) -> Checkpointer:
        job, staging = self._around.job, self._staging()
        return Checkpointer(
            job.checkpoint.directory or f"{self._order.run_directory}/checkpoints",
            identity=identity(job),
            rank=self._rank,
            world_size=self._plan.size,
            generation=self._order.generation,
            group=dist.group.WORLD,
            execution=self._order.message.get("execution", ""),
            mesh={
                "pp": self._plan.pp,
                "dp_replicate": self._plan.dp_replicate,
                "dp_shard": self._plan.dp_shard,
                "tp": self._plan.tp,
            },
            keep=Keep(keep=job.checkpoint.keep, keep_every=job.checkpoint.keep_every or 0),
            staging=staging / f"own-{self._order.local_rank}" if staging else None,
            storage_options=job.checkpoint.storage_options,
        )

    def _staging(self) -> Path | None:
        """This node's directory in shared memory, where its agent has made one."""
        directory = self._order.message.get("staging")
        return Path(directory) if directory else None

    def _steps(self, training: Training, checkpointer: Checkpointer) -> Finished:
        job, state = self._around.job, training.state
        last = min(job.train.steps, job.train.stop_at or job.train.steps)
        saved = state.version
        while state.version < last:
            self._last = applied = train_step(
                training, wish=self._around.inbox.wish(self._order.generation), at=self._pass
            )
            self._report(applied)
            if not applied.verdict.finite:
                self._report_bad_numbers(applied)
            ends, leaves = state.version == last, applied.verdict.leave
            write = self._is_due(job.checkpoint.every) or (leaves and applied.verdict.save)
            if not ends and (write or leaves or self._is_due(job.elastic.mirror_every)):
                self._keep(training, checkpointer, write=write)
                saved = state.version if write else saved
            if leaves and not ends:
                self._land()
                if applied.verdict.save:
                    checkpointer.drain()
                reason = self._around.inbox.leave_reason(self._order.generation)
                raise GenerationOver(
                    self._order.generation, reason or "another rank was asked to leave"
                )
        self._land()
        if job.checkpoint.at_end and saved < state.version:
            self._keep(training, checkpointer, write=True)
            self._land()
        checkpointer.drain()
        return Finished(
            status="completed" if state.version >= job.train.steps else "stopped",
            summary={
                "steps": state.version,
                "final_loss": None if self._last is None else self._last.verdict.loss,
                "weights_sha256": weights_sha256(training),
            },
        )

    def _report_bad_numbers(self, applied: Applied) -> None:
        """Say that a step updated nothing. Raises WorkerError where the job wants to end then."""
        said = f"step {applied.step}: loss {applied.verdict.loss}, norm {applied.verdict.norm}"
        if self._around.job.train.on_bad_numbers == "stop":
            raise WorkerError(f"{said}; train.on_bad_numbers is stop")
        if self._rank == 0:
            log.warning("%s; its update is passed over", said)
            self._around.channel.send(
                {
                    "type": "event",
                    "event": "step.skipped",
                    "generation": self._order.generation,
                    "step": applied.step,
                }
            )

    def _pass(self, point: str) -> None:
        self._interruption.check()
        if self._around.job.faults:
            self._faults.at(self._here(point))
        if point == "agreed":
            # What was being copied while the step computed is about to change.
            self._land()

    def _here(self, point: str) -> Here:
        assert self.past is not None
        return Here(
            rank=self._rank,
            world_size=self._plan.size,
            node=self._order.node,
            generation=self._order.generation,
            step=self.past.version + (0 if point in ("applied", "saving") else 1),
            point=POINTS[point],
        )

    def _poison(self) -> None:
        assert self.past is not None
        for gradient in self.past.gradients()[:1]:
            shard_of(gradient).fill_(math.nan)

    def _is_due(self, every: int) -> bool:
        assert self.past is not None
        return bool(every) and self.past.version % every == 0

    def _keep(self, training: Training, checkpointer: Checkpointer, *, write: bool) -> None:
        """Copy the state to where it outlives this process; with `write`, save it from there."""
        self._land()
        if write:
            self._pass("saving")
        state, job = training.state, self._around.job
        values = plain_values(
            state,
            samples_per_step=training.samples_per_step,
            pieces=training.pieces,
            seed=job.run.seed,
        )
        if self._staging() is None:
            if write:
                checkpointer.save(state.version, state.tensors(), values)
            return
        self._staged = checkpointer.stage(
            state.version,
            state.tensors(),
            values,
            write=write,
            mirror=job.elastic.mirror_every > 0,
            when_busy=job.checkpoint.when_busy,
        )

    def _land(self) -> None:
        """Wait for the copy that is on its way, and hand it to the agent."""
        staged, self._staged = self._staged, None
        if staged is not None:
            path = staged.wait()
            self._around.channel.send(
                {
                    "type": "staged",
                    "generation": self._order.generation,
                    "version": staged.version,
                    "path": str(path),
                }
            )

    def _report(self, applied: Applied, *, again: bool = False) -> None:
        message: dict[str, Any] = {
            "type": "step",
            "generation": self._order.generation,
            "step": applied.step,
        }
        if again:
            message["again"] = True
        if self._speaks:
            message |= {
                "loss": applied.verdict.loss,
                "grad_norm": applied.verdict.norm,
                "lr": applied.lr,
                "tokens": applied.tokens,
                "step_seconds": applied.seconds,
                "world_size": self._plan.size,
                "time": time.time(),
            }
        self._around.channel.send(message)


def identity(job: Job) -> dict[str, Any]:
    """What a checkpoint must share with the job that reads it: the model, and nothing else."""
    if job.model.factory is not None:
        return {"factory": job.model.factory}
    sizes = dataclasses.asdict(job.model.sizes())
    return {"model": "llama"} | {key: value for key, value in sizes.items() if key != "dropout"}


def lost_contact(error: BaseException) -> bool:
    """Whether a collective or the store failed because a peer is gone.

    The pipeline wraps what its stages raise, so causes are looked at too.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BROKEN_GROUP):
            return True
        if isinstance(cause, RuntimeError) and any(word in str(cause) for word in LOST_CONTACT):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
