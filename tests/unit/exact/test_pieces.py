"""Who computes which piece."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.exact import rounds


@given(pieces=st.integers(1, 300), dp_size=st.integers(1, 300))
def test_every_piece_is_counted_once_and_in_order(pieces, dp_size):
    counted = [
        work.piece_of(rank)
        for work in rounds(pieces, dp_size)
        for rank in range(dp_size)
        if work.counts(rank)
    ]
    assert counted == list(range(pieces))


def test_a_full_mesh_needs_one_round():
    assert len(rounds(12, 12)) == 1


def test_ranks_without_a_piece_repeat_the_first_of_the_round():
    last = rounds(5, 3)[-1]
    assert [last.piece_of(rank) for rank in range(3)] == [3, 4, 3]
    assert [last.counts(rank) for rank in range(3)] == [True, True, False]


def test_nothing_to_cut_is_refused():
    with pytest.raises(ValueError, match="at least one piece"):
        rounds(0, 4)
