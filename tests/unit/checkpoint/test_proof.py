"""What ranks put into a collective is told from whatever a cut one leaves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.checkpoint.proof import HEADER_BYTES, header, opened, proven_sums, row
from trainer.errors import ContactLost

numbers = st.integers(-(1 << 40), 1 << 40)


@st.composite
def tables(draw: st.DrawFn) -> list[list[int]]:
    """A row of numbers for each of some ranks."""
    width = draw(st.integers(0, 6))
    rows = st.lists(numbers, min_size=width, max_size=width)
    return draw(st.lists(rows, min_size=1, max_size=9))


def summed(rows: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)]


def given_by(table: Sequence[Sequence[int]], turn: int) -> list[list[int]]:
    return [row(numbers, turn=turn, rank=rank) for rank, numbers in enumerate(table)]


@given(tables(), st.integers(1, 1 << 40))
def test_sums_of_all_rows_are_proven(table: list[list[int]], turn: int) -> None:
    sums = summed(given_by(table, turn))
    assert proven_sums(sums, turn=turn, ranks=len(table)) == summed(table)


@given(tables(), st.integers(1, 1 << 40), st.data())
def test_sums_in_which_a_number_is_another_are_refused(
    table: list[list[int]], turn: int, data: st.DataObject
) -> None:
    sums = summed(given_by(table, turn))
    place = data.draw(st.integers(0, len(sums) - 1))
    sums[place] += data.draw(numbers.filter(bool))
    with pytest.raises(ContactLost, match="a collective was cut"):
        proven_sums(sums, turn=turn, ranks=len(table))


@given(tables().filter(lambda table: len(table) > 1), st.data())
def test_sums_that_lack_a_rank_or_have_one_twice_are_refused(
    table: list[list[int]], data: st.DataObject
) -> None:
    rows = given_by(table, 7)
    one = data.draw(st.integers(0, len(rows) - 1))
    instead = data.draw(st.sampled_from([None, *(r for r in range(len(rows)) if r != one)]))
    rows[one] = [0] * len(rows[one]) if instead is None else rows[instead]
    with pytest.raises(ContactLost):
        proven_sums(summed(rows), turn=7, ranks=len(table))


@pytest.mark.parametrize("factor", [0, 2, 7])
def test_what_a_ring_had_added_up_by_then_is_refused(factor: int) -> None:
    sums = [factor * value for value in summed(given_by([[3, 0], [5, 1]], 4))]
    with pytest.raises(ContactLost):
        proven_sums(sums, turn=4, ranks=2)


def test_sums_of_an_earlier_turn_are_refused() -> None:
    with pytest.raises(ContactLost):
        proven_sums(summed(given_by([[3], [5]], 4)), turn=5, ranks=2)


@given(st.binary(max_size=40), st.integers(1, 1 << 40), st.integers(0, 9))
def test_a_payload_is_proven_by_its_header(payload: bytes, turn: int, rank: int) -> None:
    seal = opened(header(payload, turn=turn, rank=rank), turn=turn, rank=rank)
    assert seal.length == len(payload)
    assert seal.proven(payload) == payload


@pytest.mark.parametrize("head", [bytes(HEADER_BYTES), bytes(range(HEADER_BYTES))])
def test_a_header_that_nobody_sealed_is_refused(head: bytes) -> None:
    with pytest.raises(ContactLost):
        opened(head, turn=3, rank=1)


@pytest.mark.parametrize(("turn", "rank"), [(2, 1), (3, 0)])
def test_a_header_of_another_turn_or_rank_is_refused(turn: int, rank: int) -> None:
    with pytest.raises(ContactLost):
        opened(header(b"it", turn=turn, rank=rank), turn=3, rank=1)


@pytest.mark.parametrize("payload", [b"", b"is", b"it "])
def test_another_payload_is_refused(payload: bytes) -> None:
    seal = opened(header(b"it", turn=3, rank=1), turn=3, rank=1)
    with pytest.raises(ContactLost):
        seal.proven(payload)
