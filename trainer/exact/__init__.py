"""The same bits for any number of ranks: pieces, the ordered fold, the order-free norm."""

from __future__ import annotations

from trainer.exact.fold import PieceFold
from trainer.exact.norm import SquareSum, peak_exponent, square_sum
from trainer.exact.pieces import Round, rounds

__all__ = ["PieceFold", "Round", "SquareSum", "peak_exponent", "rounds", "square_sum"]
