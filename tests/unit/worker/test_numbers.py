"""Which steps are bad, and that every way of coming by the state judges alike."""

from __future__ import annotations

import json
import math

import pytest

from trainer.worker.numbers import LEAST_STEPS, REMEMBERED_STEPS, Numbers, latest


def usual(count: int = LEAST_STEPS) -> Numbers:
    numbers = Numbers()
    for _ in range(count):
        numbers = numbers.after_good(2.0, 0.5, remember=True)
    return numbers


@pytest.mark.parametrize(
    ("loss", "norm", "words"),
    [
        (math.nan, 1.0, "its loss is nan"),
        (math.inf, 1.0, "its loss is inf"),
        (2.0, math.nan, "its norm is nan"),
    ],
)
def test_numbers_that_are_not_finite_are_bad_from_the_first_step_on(loss, norm, words):
    assert Numbers().judge(1, loss, norm, None) == words
    assert usual().judge(9, loss, norm, 3.0) == words


@pytest.mark.parametrize(
    ("loss", "norm", "bad"),
    [(5.9, 0.5, None), (6.1, 0.5, "loss"), (2.0, 1.4, None), (2.0, 1.6, "norm"), (0.0, 0.0, None)],
)
def test_a_spike_is_told_by_the_running_median(loss, norm, bad):
    found = usual().judge(9, loss, norm, 3.0)
    assert found is None if bad is None else bad in (found or "")


def test_nothing_sticks_out_before_enough_is_known_and_nothing_where_nobody_asked():
    assert usual(LEAST_STEPS - 1).judge(8, 100.0, 100.0, 3.0) is None
    assert usual().judge(9, 100.0, 100.0, None) is None


def test_losses_around_zero_have_no_median_to_be_measured_by():
    numbers = Numbers()
    for _ in range(LEAST_STEPS):
        numbers = numbers.after_good(-1.0, 0.5, remember=True)
    assert numbers.judge(9, 5.0, 0.5, 3.0) is None


def test_the_window_moves_and_bad_steps_are_not_in_it():
    numbers = usual(REMEMBERED_STEPS)
    for step in range(5):
        numbers = numbers.after_bad(step, condemn=False)
    assert numbers.losses == (2.0,) * REMEMBERED_STEPS
    assert (numbers.skipped, numbers.streak, numbers.condemned) == (5, 5, None)
    for _ in range(REMEMBERED_STEPS):
        numbers = numbers.after_good(10.0, 0.5, remember=True)
    assert numbers.losses == (10.0,) * REMEMBERED_STEPS
    assert (numbers.skipped, numbers.streak) == (5, 0)


def test_a_step_sends_the_state_back_once_and_is_passed_over_afterwards():
    mirror = usual()
    before = mirror.after_good(2.0, 0.5, remember=True).after_bad(10, condemn=True)
    assert before.condemned == 10
    now = mirror.gone_back(before)
    assert (now.condemned, now.passed_over, now.rollbacks) == (None, (10,), 1)
    assert now.losses == mirror.losses
    again = now.after_good(2.0, 0.5, remember=True)
    assert again.judge(10, 2.0, 0.5, 3.0) == "the state went back because of it"
    passed = again.after_bad(10, condemn=True)
    assert (passed.condemned, passed.skipped, passed.rollbacks) == (None, 1, 1)


def test_a_second_rollback_to_the_same_mirror_remembers_the_first():
    mirror = usual()
    first = mirror.gone_back(mirror.after_bad(10, condemn=True))
    second = first.after_bad(10, condemn=True).after_bad(11, condemn=True)
    # The mirror itself may be of before the first time.
    assert mirror.gone_back(second).passed_over == (10, 11)
    assert mirror.gone_back(second).rollbacks == 2


def test_it_travels_as_json_without_a_bit_lost():
    numbers = Numbers().after_good(0.1 + 0.2, 1 / 3, remember=True).after_bad(2, condemn=True)
    numbers = numbers.gone_back(numbers)
    assert Numbers.of(json.loads(json.dumps(numbers.plain()))) == numbers
    assert Numbers.of({}) == Numbers()
    assert Numbers().plain() == {}


def test_of_one_version_the_last_time_around_counts():
    old, new = {"version": 5}, {"version": 5, "numbers": {"rollbacks": 1, "passed_over": [7]}}
    assert latest([old, new, old]) == new
