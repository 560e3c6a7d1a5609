"""An order of n things that needs no memory."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data import Permutation


@settings(deadline=None)  # a busy machine is no fault of the permutation
@given(size=st.integers(1, 700), key=st.binary(max_size=8))
def test_everything_comes_exactly_once(size, key):
    order = Permutation(size, key)
    assert sorted(order(index) for index in range(size)) == list(range(size))


@settings(deadline=None)
@given(size=st.integers(1, 2**62), data=st.data())
def test_large_ones_stay_in_range(size, data):
    index = data.draw(st.integers(0, size - 1))
    assert 0 <= Permutation(size, b"k")(index) < size


def test_keys_give_orders_of_their_own_and_neighbours_part():
    first, second = Permutation(1000, b"1"), Permutation(1000, b"2")
    orders = [[order(index) for index in range(1000)] for order in (first, second)]
    assert orders[0] != orders[1]
    assert orders[0] != list(range(1000))
    assert sum(a == b for a, b in zip(*orders, strict=True)) < 10
    steps = [abs(a - b) for a, b in zip(orders[0], orders[0][1:], strict=False)]
    assert 250 < sum(steps) / len(steps) < 420


def test_these_orders_are_for_good():
    """A resumed run continues the order that an earlier version began."""
    order = Permutation(10, b"order/0/0")
    assert [order(index) for index in range(10)] == [4, 0, 2, 5, 9, 6, 3, 1, 7, 8]


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_out_of_range(index):
    with pytest.raises(IndexError):
        Permutation(5, b"")(index)


def test_nothing_to_permute():
    with pytest.raises(ValueError, match="nothing"):
        Permutation(0, b"")
