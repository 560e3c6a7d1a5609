"""A sum of squares in which the order of addition cannot matter.

Floating-point addition is not associative, so a gradient norm summed rank by rank differs in
its last bits between world sizes, and clipping spreads that to every weight. Here each square
is cut against one common exponent into two limbs of 24 bits; limbs are whole numbers that a
float64 adds without rounding (up to 2^29 of them), and from there on Python's integers add.
The idea is the pre-rounding of reproducible summation (Demmel and Nguyen, "Parallel
Reproducible Summation", 2015). What is dropped is below 2^-48 of the largest square.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

LIMB_BITS = 24
CHUNK_ELEMENTS = 1 << 20
NOT_FINITE = 1 << 20
"""The exponent that stands for an infinity or a NaN among the gradients."""
ALL_ZERO = -(1 << 20)
"""The exponent of no gradient at all, or of nothing but zeros."""
LEAST_EXPONENT, GREATEST_EXPONENT = -148, 128
"""Of the smallest subnormal float32, 2^-149, and of those just below 2^128."""


def peak_exponent(gradients: Sequence[torch.Tensor]) -> int:
    """The least e with |g| < 2^e for every element; NOT_FINITE or ALL_ZERO where there is none."""
    filled = [g for g in gradients if g.numel()]
    if not filled:
        return ALL_ZERO
    peak = float(torch.stack(torch._foreach_norm(filled, ord=math.inf)).max())
    if not math.isfinite(peak):
        return NOT_FINITE
    return math.frexp(peak)[1] if peak else ALL_ZERO


def is_exponent(value: int) -> bool:
    """Whether gradients of float32 or narrower can have this peak."""
    return value in (NOT_FINITE, ALL_ZERO) or LEAST_EXPONENT <= value <= GREATEST_EXPONENT


@dataclass(frozen=True, slots=True)
class SquareSum:
    """`limbs` (high, low) stand for (high x 2^24 + low) x 2^(2 x exponent - 48)."""

    high: int
    low: int

    def norm(self, exponent: int) -> float:
        """The root of the sum; NaN where a gradient was not finite."""
        if exponent == NOT_FINITE:
            return math.nan
        if exponent == ALL_ZERO:
            return 0.0
        total = (self.high << LIMB_BITS) + self.low
        return math.ldexp(math.sqrt(math.ldexp(float(total), -2 * LIMB_BITS)), exponent)


def square_sum(gradients: Sequence[torch.Tensor], exponent: int) -> SquareSum:
    """Sum the squares of float32 (or narrower) tensors against the common `exponent`.

    The result is the same for every way of cutting the same elements into tensors and ranks,
    once the limbs of all ranks are added.
    """
    if exponent in (NOT_FINITE, ALL_ZERO):
        return SquareSum(0, 0)
    high = low = 0
    scale = math.ldexp(1.0, LIMB_BITS)
    for gradient in gradients:
        for chunk in torch.split(gradient.reshape(-1), CHUNK_ELEMENTS):
            # |g| / 2^e < 1 has 24 significant bits, so its square is exact in a float64.
            squares = chunk.double().mul_(math.ldexp(1.0, -exponent)).square_().mul_(scale)
            whole = squares.floor()
            rest = squares.sub_(whole).mul_(scale).floor_()
            high += int(whole.sum())
            low += int(rest.sum())
    return SquareSum(high, low)
