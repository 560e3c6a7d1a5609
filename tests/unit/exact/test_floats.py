"""Floats as whole numbers, whose sums have no order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.exact import sum_of, whole_numbers
from trainer.exact.floats import NUMBERS

finite = st.floats(allow_nan=False, allow_infinity=False)


def added(values: Sequence[float]) -> list[int]:
    rows = [whole_numbers(value) for value in values]
    return [sum(column) for column in zip(*rows, strict=True)] or [0] * NUMBERS


@given(finite)
def test_a_float_comes_back(value: float) -> None:
    numbers = whole_numbers(value)
    assert len(numbers) == NUMBERS
    assert all(abs(number) < 1 << 32 for number in numbers)
    assert sum_of(numbers) == value


@given(st.lists(finite, max_size=8))
def test_the_sum_is_rounded_once(values: list[float]) -> None:
    exact = sum(map(Fraction, values), Fraction(0))
    try:
        rounded = exact.numerator / exact.denominator
    except OverflowError:
        rounded = math.inf if exact > 0 else -math.inf
    assert sum_of(added(values)) == rounded


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([math.inf, 1.0], math.inf),
        ([-math.inf, -math.inf, 1e308], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([math.nan, math.inf], math.nan),
        ([1e308, 1e308], math.inf),
    ],
)
def test_what_is_not_finite_stays_so(values: list[float], total: float) -> None:
    assert sum_of(added(values)) == pytest.approx(total, nan_ok=True)
