"""A float64 as whole numbers, which add up to the same bits in any order.

Every finite float64 is a multiple of 2^-1074. Cut into limbs of 32 bits, such multiples add
without rounding for as many ranks as there will ever be (2^31), and are rounded once, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_LIMB_BITS = 32
_POINT = 1074
"""The bits behind the point: a float64 has none further behind."""
_LIMBS = -(-(_POINT + 1024) // _LIMB_BITS)
"""As many as the largest float64 (below 2^1024) fills."""
_ODD = (math.inf, -math.inf, math.nan)
NUMBERS = len(_ODD) + _LIMBS
"""How many whole numbers stand for a float64: how often it is infinite or no number, then limbs."""


def whole_numbers(value: float) -> list[int]:
    """NUMBERS whole numbers, each below 2^32 in magnitude, that stand for `value`."""
    if not math.isfinite(value):
        odd = 2 if math.isnan(value) else int(value < 0)
        return [int(place == odd) for place in range(NUMBERS)]
    above, below = value.as_integer_ratio()
    multiple = abs(above) * ((1 << _POINT) // below)
    sign, mask = (-1 if above < 0 else 1), (1 << _LIMB_BITS) - 1
    limbs = [sign * (multiple >> (_LIMB_BITS * limb) & mask) for limb in range(_LIMBS)]
    return [0] * len(_ODD) + limbs


def sum_of(numbers: Sequence[int]) -> float:
    """The float64 nearest to the sum whose `whole_numbers` were added one by one."""
    odd, limbs = numbers[: len(_ODD)], numbers[len(_ODD) :]
    if any(odd):
        return sum(value for value, times in zip(_ODD, odd, strict=True) if times > 0)
    total = sum(limb << (_LIMB_BITS * place) for place, limb in enumerate(limbs))
    try:
        return total / (1 << _POINT)
    except OverflowError:
        return math.inf if total > 0 else -math.inf
