"""One piece, forwards and backwards: microbatch by microbatch, or through the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining.schedules import _PipelineSchedule
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import loss_parallel

LossFunction = Callable[[Tensor, Tensor], Tensor]


class PieceRunner(Protocol):
    """Computes the gradients of one piece.

    tokens, targets: [samples, sequence]; keys: [samples], what dropout is keyed by. Returns
    the loss of each microbatch where this rank holds the last stage, or nothing.
    """

    def __call__(self, tokens: Tensor, targets: Tensor, keys: Tensor) -> list[Tensor]: ...


class WholeModel:
    """No pipeline: each microbatch forwards and backwards; the last one reduces."""

    def __init__(
        self, model: nn.Module, loss: LossFunction, *, microbatches: int, cut_loss: bool
    ) -> None:
        self._model = model
        self._loss = loss
        self._microbatches = microbatches
        self._cut_loss = cut_loss

    def __call__(self, tokens: Tensor, targets: Tensor, keys: Tensor) -> list[Tensor]:
        losses: list[Tensor] = []
        parts = [value.chunk(self._microbatches) for value in (tokens, targets, keys)]
        for index, (inputs, wanted, sample_keys) in enumerate(zip(*parts, strict=True)):
            if isinstance(self._model, FSDPModule):
                last = index == self._microbatches - 1
                self._model.set_is_last_backward(last)
                self._model.set_requires_gradient_sync(last)
                self._model.set_reshard_after_backward(last)
            with loss_context(self._cut_loss):
                loss = self._loss(self._model(inputs, sample_keys), wanted)
                torch.autograd.backward(loss)
            losses.append(loss.detach())
        return losses


class Pipelined:
    """One schedule run per piece; every stage gets the keys, only the ends the tokens."""

    def __init__(
        self, schedule: _PipelineSchedule, *, first: bool, last: bool, cut_loss: bool
    ) -> None:
        self._schedule = schedule
        self._first = first
        self._last = last
        self._cut_loss = cut_loss

    def __call__(self, tokens: Tensor, targets: Tensor, keys: Tensor) -> list[Tensor]:
        losses: list[Tensor] | None = [] if self._last else None
        with loss_context(self._cut_loss):
            self._schedule.step(
                *((tokens,) if self._first else ()),
                target=targets if self._last else None,
                losses=losses,
                return_outputs=False,
                keys=keys,
            )
        return [loss.detach() for loss in losses or ()]


def loss_context(cut_loss: bool) -> AbstractContextManager[object]:
    """The loss over logits that are cut along the vocabulary needs its own backward."""
    return loss_parallel() if cut_loss else nullcontext()


def total(losses: list[Tensor]) -> float:
    """Add the losses of one piece's microbatches in order; one synchronization with the device."""
    result = 0.0
    plain = [loss.to_local() if isinstance(loss, DTensor) else loss for loss in losses]
    for value in torch.stack(plain).double().tolist():
        result += value
    return result
