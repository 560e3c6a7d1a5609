"""The same bits for any number of ranks: pieces, the ordered fold, the order-free norm."""

from __future__ import annotations

from trainer.exact.floats import sum_of, whole_numbers
from trainer.exact.fold import PieceFold
from trainer.exact.norm import SquareSum, is_exponent, peak_exponent, square_sum
from trainer.exact.pieces import Round, rounds

__all__ = [
    "PieceFold",
    "Round",
    "SquareSum",
    "is_exponent",
    "peak_exponent",
    "rounds",
    "square_sum",
    "sum_of",
    "whole_numbers",
]
