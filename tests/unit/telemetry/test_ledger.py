"""One line a step, whatever happens to the writer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainer.telemetry.ledger import REMEMBERED_STEPS, Ledger


def record(step: int, generation: int = 1, **more: object) -> dict:
    return {
        "type": "step",
        "step": step,
        "loss": 1.0 / step,
        "tokens": 10,
        "step_seconds": 0.5,
        "generation": generation,
        **more,
    }


def test_a_step_done_twice_is_one_line_and_one_lost_step() -> None:
    ledger = Ledger()
    lines = [line for step in (1, 2, 3, 2, 3, 4) for line in ledger.offer(record(step))]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert ledger.lost_steps == 2
    assert ledger.tokens == 40
    assert ledger.last_loss == 0.25


def test_a_step_told_again_is_neither_lost_nor_written_twice() -> None:
    ledger = Ledger()
    told = [record(1), record(2), record(2, generation=2, again=True), record(3, generation=2)]
    lines = [line for each in told for line in ledger.offer(each)]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert ledger.lost_steps == 0


def test_a_step_told_again_is_written_where_it_was_not() -> None:
    ledger = Ledger()
    lines = [line for each in (record(1), record(2, again=True)) for line in ledger.offer(each)]
    assert [line["step"] for line in lines] == [1, 2]
    assert "again" not in lines[1]


def test_goodput_counts_each_step_once() -> None:
    ledger = Ledger()
    for step in (1, 2, 1, 2, 3):
        ledger.offer(record(step))
    assert ledger.counted_seconds == 1.5
    assert ledger.shares(3.0).goodput == 0.5
    assert ledger.tokens_per_second(3.0) == 10.0
    assert ledger.shares(0.0).goodput == 0.0
    assert ledger.shares(1.0).goodput == 1.0


def test_a_new_writer_goes_on_where_the_last_one_was_lost() -> None:
    old = Ledger()
    written = [line for step in (1, 2) for line in old.offer(record(step))]
    new = Ledger()
    for step in (1, 2, 3):
        new.remember(record(step))
    new = new.renewed(written)
    lines = new.offer(record(4, generation=2))
    assert [line["step"] for line in lines] == [3, 4]
    assert new.lost_steps == 0


def test_what_nobody_remembers_leaves_a_gap_and_no_invention() -> None:
    ledger = Ledger()
    assert [line["step"] for line in ledger.offer(record(5))] == [5]
    ledger.remember({"step": 6})
    assert [line["step"] for line in ledger.offer(record(7))] == [7]


def test_memory_is_bounded_and_fields_in_order() -> None:
    ledger = Ledger()
    for step in range(1, 3 * REMEMBERED_STEPS):
        ledger.remember(record(step))
    assert len(ledger._remembered) == REMEMBERED_STEPS
    (line,) = Ledger().offer(record(1, skipped=True))
    assert list(line) == ["step", "loss", "tokens", "step_seconds", "generation", "skipped"]


@given(st.lists(st.integers(1, 30), max_size=80))
def test_lines_are_of_rising_steps_and_every_offer_counts(steps: list[int]) -> None:
    ledger = Ledger()
    lines = [line["step"] for step in steps for line in ledger.offer(record(step))]
    assert lines == sorted(set(lines))
    assert len(lines) + ledger.lost_steps == len(steps)
    again = Ledger.resume(record(step) for step in lines)
    assert (again.last_step, again.tokens) == (ledger.last_step, ledger.tokens)
