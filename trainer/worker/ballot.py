"""The one all-reduce that ends the gradients of a step: norm, losses and wishes of all ranks.

Whoever gets its result knows that every rank has whole gradients, so this is the commit point
of a step. Every field is a whole number, so their sums have no order: limbs, flags, and the bits
of each loss, which one rank gives while all others give zero.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from trainer.checkpoint.exchange import Exchange
from trainer.errors import ContactLost
from trainer.exact import SquareSum, is_exponent, peak_exponent, square_sum, sum_of, whole_numbers

_LIMB = 1 << 32
_BITS = struct.Struct("<q")
_FLOAT = struct.Struct("<d")


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
    exchange: Exchange,
) -> Verdict:
    """Collective over the world. `gradients` are the local shards that this rank alone counts.

    `losses` holds the loss of each piece that this rank alone reports; they are added in piece
    order. Raises what the exchange raises where the result is not to be believed.
    """
    exponent = _common_exponent(gradients, exchange) if exact else 0
    sums = square_sum(gradients, exponent) if exact else SquareSum(0, 0)
    plain = 0.0 if exact else float(sum(float(g.double().square().sum()) for g in gradients))
    high1, high0, low1, low0, leaving, saving, *rest = exchange.sum(
        [
            *divmod(sums.high, _LIMB),
            *divmod(sums.low, _LIMB),
            wish.leave,
            wish.save,
            *(_bits_of(losses[piece]) if piece in losses else 0 for piece in range(pieces)),
            *([] if exact else whole_numbers(plain)),
        ]
    )
    total = SquareSum(high=high1 * _LIMB + high0, low=low1 * _LIMB + low0)
    loss = 0.0
    for bits in rest[:pieces]:
        loss += _float_of(bits)
    return Verdict(
        loss=loss,
        norm=total.norm(exponent) if exact else sum_of(rest[pieces:]) ** 0.5,
        leave=leaving > 0,
        save=saving > 0,
    )


def _common_exponent(gradients: Sequence[torch.Tensor], exchange: Exchange) -> int:
    exponent = exchange.largest(peak_exponent(gradients))
    if not is_exponent(exponent):
        # Not yet proven: a cut collective may have left any number there.
        raise ContactLost(f"the ranks' common exponent came out as {exponent}: a peer is gone")
    return exponent


def _bits_of(loss: float) -> int:
    (bits,) = _BITS.unpack(_FLOAT.pack(loss))
    return int(bits)


def _float_of(bits: int) -> float:
    (loss,) = _FLOAT.unpack(_BITS.pack(bits))
    return float(loss)
