"""One writer at a time, also when the one before has not heard of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.telemetry.turn import Claim, Turn


@pytest.fixture
def turns(tmp_path: Path) -> tuple[Turn, Turn]:
    a, b = (Turn(tmp_path / ".keeper", name) for name in ("a 1", "b 2"))
    return a, b


def test_the_last_one_to_take_it_has_it(turns: tuple[Turn, Turn]) -> None:
    a, b = turns
    assert not a.ours
    assert a.take(1)
    assert a.ours
    assert b.take(2)
    assert b.ours
    assert not a.ours
    assert a.take(3)
    assert a.ours
    assert not b.ours


def test_who_was_stopped_does_not_take_it_for_a_generation_that_is_over(
    turns: tuple[Turn, Turn],
) -> None:
    a, b = turns
    a.take(1)
    b.take(3)
    assert not a.take(2)
    assert not a.regain()
    assert b.ours


def test_who_waits_takes_it_from_the_first_node_that_may_be_lost(turns: tuple[Turn, Turn]) -> None:
    a, b = turns
    a.take(2)
    assert b.take(2, waits=True)
    assert b.ours


@pytest.mark.parametrize("generation", [2, 3])
def test_the_first_node_takes_it_back_from_who_waits(
    turns: tuple[Turn, Turn], generation: int
) -> None:
    a, b = turns
    b.take(2, waits=True)
    a.take(generation)
    b.take(2, waits=True)
    assert a.regain() or a.ours
    assert a.ours
    assert not b.regain()


def test_who_waits_does_not_take_it_from_a_later_generation(turns: tuple[Turn, Turn]) -> None:
    a, b = turns
    a.take(3)
    assert not b.take(2, waits=True)
    assert a.ours


def test_a_new_start_takes_it_whatever_there_was(turns: tuple[Turn, Turn]) -> None:
    a, b = turns
    a.take(14)
    assert b.take(1, anyway=True)
    assert b.ours


@pytest.mark.parametrize("text", ["", "a 12 0f", "x first a", "-3 first a", "3 last a", "²  first"])
def test_what_is_no_claim_is_nobodys_who_knows_of_a_generation(text: str, tmp_path: Path) -> None:
    assert Claim.read(text) == Claim(text)
    (tmp_path / ".keeper").write_text(text)
    turn = Turn(tmp_path / ".keeper", "b")
    assert not turn.ours
    assert turn.take(0, waits=True)
    assert turn.ours


def test_a_claim_is_read_as_it_was_written() -> None:
    for claim in (Claim("node-a 17 0f", 3), Claim("b 1 1", 0, waits=True)):
        assert Claim.read(str(claim)) == claim
