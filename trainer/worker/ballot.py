"""The one all-reduce that ends the gradients of a step: norm, losses and wishes of all ranks.

Whoever gets its result knows that every rank has whole gradients, so this is the commit point
of a step. Every field is summed, and every sum is free of rounding: limbs and flags are whole
numbers below 2^53, and each loss has one rank that gives it while all others give zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from trainer.exact import SquareSum, peak_exponent, square_sum

_LIMB = 1 << 32


@dataclass(frozen=True, slots=True)
class Wish:
    """What a rank has been asked for: that all leave after this step, and that they save first."""

    leave: bool = False
    save: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all ranks agree on: `loss` is the mean over the global batch, in nats a token.

    `bad` says why the update has to be left out; see numbers.py. `generation` is the one whose
    gradients it is about.
    """

    loss: float
    norm: float
    leave: bool = False
    save: bool = False
    bad: str | None = None
    generation: int = 0


def agree(
    gradients: Sequence[torch.Tensor],
    losses: Mapping[int, float],
    *,
    pieces: int,
    wish: Wish,
    exact: bool,
    device: torch.device,
) -> Verdict:
    """Collective over the world. `gradients` are the local shards that this rank alone counts.

    `losses` holds the loss of each piece that this rank alone reports; they are added in piece
    order.
    """
    exponent = _common_exponent(gradients, device) if exact else 0
    sums = square_sum(gradients, exponent) if exact else SquareSum(0, 0)
    plain = 0.0 if exact else float(sum(float(g.double().square().sum()) for g in gradients))
    ballot = torch.tensor(
        [
            *divmod(sums.high, _LIMB),
            *divmod(sums.low, _LIMB),
            plain,
            float(wish.leave),
            float(wish.save),
            *(losses.get(piece, 0.0) for piece in range(pieces)),
        ],
        dtype=torch.float64,
        device=device,
    )
    dist.all_reduce(ballot)
    high1, high0, low1, low0, plain, leaving, saving, *by_piece = ballot.tolist()
    total = SquareSum(high=int(high1) * _LIMB + int(high0), low=int(low1) * _LIMB + int(low0))
    loss = 0.0
    for value in by_piece:
        loss += value
    return Verdict(
        loss=loss,
        norm=total.norm(exponent) if exact else plain**0.5,
        leave=leaving > 0,
        save=saving > 0,
    )


def _common_exponent(gradients: Sequence[torch.Tensor], device: torch.device) -> int:
    exponent = torch.tensor(peak_exponent(gradients), dtype=torch.int64, device=device)
    dist.all_reduce(exponent, op=dist.ReduceOp.MAX)
    return int(exponent)
