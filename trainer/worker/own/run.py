"""What a user's function is given: the mesh, the state, and the steps of one generation."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer

from trainer.errors import GenerationOver, JobError
from trainer.worker.custody import Custody
from trainer.worker.own.launched import Launched, any_since, launched
from trainer.worker.own.state import OwnState, Stateful
from trainer.worker.own.tally import Share, Tally, count, loss_of, tokens_of
from trainer.worker.points import Points
from trainer.worker.seat import Seat
from trainer.worker.state import shard_of

if TYPE_CHECKING:
    from trainer.worker.own.program import OwnLoop


class Run:
    """One generation of the run, as one rank sees it.

    `mesh` is one dimension, `dp`, over all ranks; `generation` counts from 1. The function that
    is given this builds everything anew from it, hands over its state, and goes through the steps
    that are left.
    """

    def __init__(self, program: OwnLoop, seat: Seat, stack: ExitStack) -> None:
        self.mesh: DeviceMesh = seat.mesh
        self.rank: int = seat.rank
        self.world_size: int = seat.size
        self.local_rank: int = seat.order.local_rank
        self.device: torch.device = seat.device
        self.generation: int = seat.generation
        self._program = program
        self._seat = seat
        self._stack = stack
        self._kept: _Kept | None = None
        self._logged = Share()
        self._loss: Tensor | float | None = None
        self._inside = False
        self._tally: Tally | None = None
        self._committed: Launched = []
        self._began, self._used = _clocks()
        """When the step began: of the clock, and seconds of processors used before."""

    def state(
        self, model: nn.Module, *optimizers: Optimizer, **extras: nn.Module | Stateful
    ) -> OwnState:
        """Hand over what training changes; it is filled from the nearest whole source.

        Collective, once in a generation, after the model has its final form (sharded, wrapped)
        and before the first step. `extras` are further modules, whose tensors are kept, and
        objects with a state dict of plain values, such as a scheduler. Raises JobError for what
        can't be kept.
        """
        if self._kept is not None:
            raise JobError("run.state was called twice; hand over everything at once")
        program, seat = self._program, self._seat
        modules = {name: extra for name, extra in extras.items() if isinstance(extra, nn.Module)}
        rest = {name: extra for name, extra in extras.items() if not isinstance(extra, nn.Module)}
        state = OwnState({"model": model} | modules, optimizers, rest)
        seat.mark("build")
        custody = self._stack.enter_context(Custody(seat, program.job, None, told=program.told))
        past = program.past if program.version else None
        source = None
        found = custody.sources(past)
        if found.any:
            state.prepare(found.gradients)
            source = custody.restore(state, past)
            if source is None:
                state.unprepare()
        program.state = state
        if source != "peers":
            program.made_by = None
        for optimizer in optimizers:
            for handle in (
                optimizer.register_step_pre_hook(self._before_update),
                optimizer.register_step_post_hook(lambda used, *_: state.used_by(used)),
            ):
                self._stack.callback(handle.remove)
        points = Points(
            seat,
            program.job.faults,
            seed=program.job.run.seed,
            version=lambda: state.version,
            poison=lambda: _poison(state),
        )
        self._kept = _Kept(state, custody, points)
        custody.mirror_again(state, source)
        seat.mark("state")
        seat.tell_entered(state.version, source or "init")
        return state

    def steps(self, total: int) -> Iterator[int]:
        """The numbers of the steps that are left, up to `total`, counted from 0.

        Each turn is one step: it is counted when the next one is asked for. torch's and Python's
        random numbers are seeded by (run.seed, step, rank) before each. Raises GenerationOver
        where the generation ends, which the function has to let through.
        """
        kept = self._kept
        if kept is None:
            raise JobError("call run.state before run.steps, so that there is something to keep")
        kept.state.put_gradients_back()
        while kept.state.version < total:
            self._began, self._used = _clocks()
            self._logged, self._loss = Share(), None
            _seed(self._program.job.run.seed, kept.state.version, self.rank)
            kept.points("begin")
            self._inside = True
            yield kept.state.version
            self._inside = False
            self._end_step(kept, total)
        self._program.saved = kept.custody.finish(kept.state)

    def log(self, *, loss: Tensor | float | None = None, tokens: int = 0) -> None:
        """What this rank has to say of the step, before its optimizer's step.

        The run's record has the mean of the losses over the ranks, and the sum of the tokens.

        Raises ValueError for a loss that is not one number, and for tokens that are no count.
        """
        self._loss, self._logged = loss_of(loss), Share(tokens=tokens_of(tokens))

    def forming_groups(self) -> AbstractContextManager[None]:
        """To make further process groups or meshes within, so that they are interrupted too."""
        return self._seat.interruption.forming_groups()

    def _before_update(self, *_: Any) -> None:
        kept = self._kept
        if kept is not None and self._inside and self._tally is None:
            self._commit(kept)

    def _commit(self, kept: _Kept) -> None:
        """Return once it is known that every rank has whole gradients; see program.py."""
        seat, state = self._seat, kept.state
        # A collective that was cut may have left anything in the gradients, and raised nothing.
        seat.exchange.settle()
        kept.points("gradients")
        loss = None if self._loss is None else float(self._loss)
        share = Share(loss=loss, tokens=self._logged.tokens)
        try:
            tally = count(share, seat.wish(), seat.exchange)
        except Exception as error:
            left = seat.left(error, state.version)
            if left is None:
                raise
            tally = self._program.settle_fate(left)
        kept.points.strike("agreed")
        # What was being copied while the step computed is about to change.
        kept.custody.land()
        self._tally = tally
        self._committed = launched()
        state.torn = True

    def _end_step(self, kept: _Kept, total: int) -> None:
        state, custody, seat = kept.state, kept.custody, self._seat
        if self._tally is None:
            self._commit(kept)
        elif any_since(self._committed):
            # One that was cut may have left anything in the state: it stays torn then.
            seat.exchange.settle()
        tally, self._tally = self._tally, None
        assert tally is not None
        state.settle(state.version + 1, made_in=seat.generation)
        self._program.made_by = tally
        now, used = _clocks()
        report_step(
            self._program.seat,
            state.version,
            tally,
            seconds=now - self._began,
            cpu=used - self._used if self.device.type == "cpu" else None,
            waited=custody.waited,
            lr=_rate(state),
        )
        kept.points.strike("applied")
        if self._program.seat is not seat:
            raise GenerationOver(seat.generation, "the step was settled in a later one")
        custody.after_step(state)
        ends = state.version >= total
        write = self._is_due(kept, self._program.job.checkpoint.every)
        write = write or (tally.leave and tally.save)
        mirror = self._is_due(kept, self._program.job.elastic.mirror_every)
        if not ends and (write or tally.leave or mirror):
            if write:
                kept.points("saving")
            custody.keep(state, write=write, leaves=tally.leave)
        if tally.leave and not ends:
            custody.land()
            if tally.save:
                custody.drain()
                raise seat.all_leave()
            raise GenerationOver(seat.generation, seat.leave_reason())

    @staticmethod
    def _is_due(kept: _Kept, every: int) -> bool:
        return bool(every) and kept.state.version % every == 0


@dataclass(frozen=True, slots=True)
class _Kept:
    state: OwnState
    custody: Custody
    points: Points


def report_step(
    seat: Seat,
    step: int,
    tally: Tally,
    *,
    seconds: float = 0.0,
    cpu: float | None = None,
    waited: float = 0.0,
    lr: float | None = None,
    again: bool = False,
) -> None:
    """Tell the agent of a step that is over, counted from 1.

    It took `seconds`; `cpu` of processors, None where something else computes; for `waited` of it
    the copy of a state was waited for.
    """
    fields: dict[str, Any] = {"step": step}
    if again:
        fields["again"] = True
    if seat.place.speaks:
        fields |= {
            "loss": tally.loss,
            "lr": lr,
            "tokens": tally.tokens,
            "step_seconds": seconds,
            "world_size": seat.size,
            "time": time.time(),
        }
        if cpu is not None:
            fields["cpu_seconds"] = cpu
        if waited:
            fields["waited_seconds"] = waited
    seat.say("step", **fields)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _rate(state: OwnState) -> float | None:
    groups = state.optimizers[0].param_groups if state.optimizers else []
    return float(groups[0]["lr"]) if groups and "lr" in groups[0] else None


def _seed(seed: int, step: int, rank: int) -> None:
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "little") >> 1
    torch.manual_seed(number)
    random.seed(number)


def _poison(state: OwnState) -> None:
    for gradient in state.gradients()[:1]:
        shard_of(gradient).fill_(math.nan)
