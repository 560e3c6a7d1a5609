"""One generation, as one rank lives it: groups, model, state, steps, and the way out."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from trainer.channel import WorkerEnd
from trainer.checkpoint.checkpointer import Checkpointer
from trainer.checkpoint.exchange import Exchange
from trainer.data import Batches
from trainer.errors import GenerationOver
from trainer.job import Job
from trainer.mesh import MeshPlan
from trainer.models.spec import ModelSpec
from trainer.worker.build import Training
from trainer.worker.digest import weights_sha256
from trainer.worker.groups import process_groups
from trainer.worker.inbox import Enter, Inbox
from trainer.worker.interrupt import Interruption
from trainer.worker.learning_rate import learning_rate
from trainer.worker.restore import Held, restore
from trainer.worker.state import ModelState, plain_values
from trainer.worker.step import Applied, train_step
from trainer.worker.survivor import roll_forward

LOST_CONTACT = ("gloo", "NCCL", "Connection", "Broken pipe", "Socket")
"""Words of the messages with which torch's collectives tell that a peer is gone."""


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

    `past` is the state that this process brings along; afterwards, what it leaves with.
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
        self._interruption = Interruption(order.generation)
        self._last: Applied | None = None
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
            if isinstance(error, RuntimeError) and lost_contact(error):
                return self._left("lost contact", str(error))
            raise
        finally:
            self._around.inbox.detach()
            gc.collect()

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
            self._take_up_last_step(exchange)
            training = Training(
                around.job, around.spec, around.batches, mesh, around.device, pieces=around.pieces
            )
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

    def _take_up_last_step(self, exchange: Exchange) -> None:
        """A step that some rank saw agreed on, but not all, counts: see survivor.py."""
        agreed = roll_forward(self.past, exchange)
        if agreed is not None and self._rank == 0:
            version, verdict = agreed
            # The rank that would have reported it may be the one that was lost.
            self._report(
                Applied(
                    step=version,
                    verdict=verdict,
                    lr=learning_rate(self._around.job.train, version - 1),
                    tokens=0,
                    seconds=0.0,
                )
            )

    def _restore(self, training: Training, checkpointer: Checkpointer, exchange: Exchange) -> str:
        """Fill the state from the nearest whole source; returns which it was."""
        held = []
        if self.past is not None:
            held.append(
                Held(
                    key="past",
                    kind="worker",
                    version=self.past.version,
                    tensors=self.past.local,
                )
            )
        source = restore(
            training.state,
            held,
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
        return source or "init"

    def _checkpointer(self) -> Checkpointer:
        job = self._around.job
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
        )

    def _steps(self, training: Training, checkpointer: Checkpointer) -> Finished:
        job, state = self._around.job, training.state
        last = min(job.train.steps, job.train.stop_at or job.train.steps)
        saved = state.version
        while state.version < last:
            self._last = applied = train_step(
                training, leave=self._leave_reason() is not None, at=self._pass
            )
            self._report(applied)
            if self._is_due(state.version, last):
                self._save(training, checkpointer)
                saved = state.version
            if applied.verdict.leave and state.version < last:
                reason = self._leave_reason() or "another rank was asked to leave"
                raise GenerationOver(self._order.generation, reason)
        if job.checkpoint.at_end and saved < state.version:
            self._save(training, checkpointer)
        return Finished(
            status="completed" if state.version >= job.train.steps else "stopped",
            summary={
                "steps": state.version,
                "final_loss": None if self._last is None else self._last.verdict.loss,
                "weights_sha256": weights_sha256(training),
            },
        )

    def _pass(self, point: str) -> None:
        self._interruption.check()

    def _leave_reason(self) -> str | None:
        return self._around.inbox.asked_to_leave(self._order.generation)

    def _is_due(self, version: int, last: int) -> bool:
        every = self._around.job.checkpoint.every
        return bool(every) and version % every == 0 and version < last

    def _save(self, training: Training, checkpointer: Checkpointer) -> None:
        state = training.state
        commit = checkpointer.save(
            state.version,
            state.tensors(),
            plain_values(
                state,
                samples_per_step=training.samples_per_step,
                pieces=training.pieces,
                seed=self._around.job.run.seed,
            ),
        )
        if self._rank == 0:
            self._around.channel.send(
                {
                    "type": "event",
                    "event": "checkpoint.commit",
                    "generation": self._order.generation,
                    "version": state.version,
                    "path": commit.path,
                    "bytes": commit.bytes,
                    "seconds": commit.seconds,
                }
            )

    def _report(self, applied: Applied) -> None:
        message: dict[str, Any] = {
            "type": "step",
            "generation": self._order.generation,
            "step": applied.step,
        }
        if self._rank == 0:
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
    return {"model": "llama"}


def lost_contact(error: RuntimeError) -> bool:
    """Whether a collective or the store failed because a peer is gone."""
    if isinstance(error, (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)):
        return True
    return any(word in str(error) for word in LOST_CONTACT)
