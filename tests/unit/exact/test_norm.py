"""The order-free sum of squares: right, and the same for every way of cutting the elements."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.exact import SquareSum, peak_exponent, square_sum
from trainer.exact.norm import ALL_ZERO, NOT_FINITE


def norm_of(*parts: torch.Tensor) -> float:
    exponent = peak_exponent(parts)
    return square_sum(parts, exponent).norm(exponent)


@given(
    values=st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=200
    ),
    cuts=st.lists(st.integers(0, 200), max_size=5),
    shuffle=st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_every_cut_and_order_gives_the_same_bits(values, cuts, shuffle):
    whole = torch.tensor(values, dtype=torch.float32)
    expected = norm_of(whole)
    edges = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    shuffled = list(values)
    shuffle.shuffle(shuffled)
    parts = [torch.tensor(shuffled[a:b], dtype=torch.float32) for a, b in pairwise(edges)]
    assert norm_of(*parts) == expected


@given(st.lists(st.floats(-(2.0**50), 2.0**50, width=32), min_size=1, max_size=300))
@settings(max_examples=200, deadline=None)
def test_agrees_with_exact_arithmetic(values):
    whole = torch.tensor(values, dtype=torch.float32)
    expected = math.sqrt(math.fsum(float(v) ** 2 for v in whole.tolist()))
    assert norm_of(whole) == pytest.approx(expected, rel=1e-11, abs=1e-45)


def test_sums_of_ranks_add_up_to_the_sum_of_the_whole():
    generator = torch.Generator().manual_seed(1)
    whole = torch.randn(100_003, generator=generator) * torch.logspace(-20, 8, 100_003)
    exponent = peak_exponent([whole])
    expected = square_sum([whole], exponent)
    parts = [square_sum([part], exponent) for part in whole.chunk(7)]
    assert expected == SquareSum(sum(p.high for p in parts), sum(p.low for p in parts))


def test_a_tensor_longer_than_one_chunk_counts_whole():
    assert norm_of(torch.full((3 << 20,), 0.5)) == pytest.approx(math.sqrt(3 * 2**20) / 2)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_told(bad):
    parts = [torch.ones(3), torch.tensor([1.0, bad])]
    assert peak_exponent(parts) == NOT_FINITE
    assert math.isnan(norm_of(*parts))


def test_nothing_and_zeros_have_norm_zero():
    assert peak_exponent([]) == ALL_ZERO
    assert norm_of(torch.zeros(5), torch.empty(0)) == 0.0


def test_subnormal_gradients_are_not_lost():
    tiny = torch.tensor([2.0**-149, 2.0**-149])
    assert norm_of(tiny) == pytest.approx(math.sqrt(2) * 2.0**-149, rel=1e-12)
