"""Which steps stood still: tables of runs, and what must never be taken for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.telemetry.standstill import (
    LEAST_SECONDS,
    NEIGHBOURS,
    UNSETTLED_STEPS,
    Standstill,
    StepTime,
    judge,
)


def steps(seconds: Iterable[float], **more: float) -> list[StepTime]:
    return [
        StepTime(step=number, generation=1, seconds=taken, **more)
        for number, taken in enumerate(seconds, 1)
    ]


def stood(times: Iterable[StepTime]) -> float:
    found = Standstill()
    for time in times:
        found.add(time)
    return found.seconds


def run(count: int, usual: float, **far: float) -> list[float]:
    """`count` steps, of which `at7=40` has number 7 take 40 s longer."""
    return [usual + far.get(f"at{number}", 0.0) for number in range(1, count + 1)]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (run(100, 0.5), 0.0),
        (run(100, 0.5, at50=40.0), 40.0),
        # Several stops, each of another length.
        (run(100, 0.5, at20=5.0, at50=40.0, at80=12.0), 57.0),
        # Near the end, and with few neighbours.
        (run(100, 0.5, at100=40.0), 40.0),
        (run(8, 0.5, at8=40.0), 40.0),
        (run(5, 0.5, at5=40.0), 0.0),
        # The floor, and the factor.
        (run(100, 0.05, at50=LEAST_SECONDS - 0.1), 0.0),
        (run(100, 0.05, at50=LEAST_SECONDS + 0.1), LEAST_SECONDS + 0.1),
        (run(100, 30.0, at50=40.0), 0.0),
        (run(100, 30.0, at50=400.0), 400.0),
        # The first steps compile.
        (run(100, 0.5, at1=90.0), 0.0),
        (run(100, 0.5, at1=90.0, at2=30.0, at3=11.0), 0.0),
        # Steps that took no time were told again.
        ([0.0] * 50, 0.0),
    ],
)
def test_a_step_far_outside_its_neighbours_stood_still(
    seconds: list[float], expected: float
) -> None:
    assert stood(steps(seconds)) == pytest.approx(expected)


@pytest.mark.parametrize("every", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("longer", [4.0, 60.0])
def test_an_evaluation_every_n_steps_is_none(every: int, longer: float) -> None:
    noise = random.Random(every)
    seconds = [
        0.3 + (longer * noise.uniform(0.97, 1.03) if number % every == 0 else 0.0)
        for number in range(1, 121)
    ]
    assert stood(steps(seconds)) == 0.0


def test_one_evaluation_is_none_where_its_process_computes() -> None:
    times = steps(run(60, 0.3, at30=20.0), cpu=0.28)
    times[29] = StepTime(step=30, generation=1, seconds=20.3, cpu=19.0)
    assert stood(times) == 0.0
    times[29] = StepTime(step=30, generation=1, seconds=20.3, cpu=0.3)
    assert stood(times) == pytest.approx(20.0)


def test_the_copy_of_a_state_is_none() -> None:
    """It takes long once, as the storage does; what goes beyond it is looked at."""
    times = steps(run(60, 0.3, at30=20.0))
    times[29] = StepTime(step=30, generation=1, seconds=20.3, waited=19.9)
    assert stood(times) == 0.0
    times[29] = StepTime(step=30, generation=1, seconds=20.3, waited=9.0)
    assert stood(times) == pytest.approx(11.0)


@pytest.mark.parametrize(
    "seconds",
    [
        # Slowly drifting, up and down.
        [0.5 * 1.05**number for number in range(120)],
        [40.0 * 0.95**number for number in range(120)],
        # Longer samples from some step on, and shorter ones.
        [0.2] * 50 + [8.0] * 50,
        [8.0] * 50 + [0.2] * 50,
        # Two kinds of steps, one after the other or by chance.
        [0.2, 9.0] * 40,
        [random.Random(7).choice([0.2, 0.2, 0.2, 9.0]) for _ in range(100)],
    ],
)
def test_steps_that_change_their_length_do_not_stand_still(seconds: list[float]) -> None:
    assert stood(steps(seconds)) == 0.0


def test_each_generation_has_its_own_usual() -> None:
    """Half the ranks take twice the time, and a generation's first steps are none of its usual."""
    times = steps([0.2] * 30)
    times += [
        StepTime(step=30 + number, generation=2, seconds=taken)
        for number, taken in enumerate(run(30, 2.0, at1=60.0), 1)
    ]
    assert stood(times) == 0.0
    times += [
        StepTime(step=60 + number, generation=3, seconds=taken)
        for number, taken in enumerate(run(30, 0.2, at20=9.0), 1)
    ]
    assert stood(times) == pytest.approx(9.0)


def test_what_its_node_has_seen_counts_without_factor_and_floor() -> None:
    times = steps([30.0] * 20)
    times[9] = StepTime(step=10, generation=1, seconds=32.0, seen=2.0)
    assert stood(times) == pytest.approx(2.0)
    # A generation's first step too, of which nobody knows how long it would have taken.
    times[0] = StepTime(step=1, generation=1, seconds=90.0, seen=20.0)
    assert stood(times) == pytest.approx(22.0)


def test_a_step_as_long_as_its_neighbours_did_not_stand_still_whatever_was_seen() -> None:
    times = steps([0.3] * 40)
    times[20] = StepTime(step=21, generation=1, seconds=0.3, seen=0.3)
    assert stood(times) == 0.0


def test_what_was_seen_of_one_is_not_guessed_again_and_hides_no_other() -> None:
    times = steps(run(100, 0.5, at30=10.0, at60=10.2))
    times[29] = StepTime(step=30, generation=1, seconds=10.5, seen=9.8)
    assert stood(times) == pytest.approx(9.8 + 10.2)


def test_a_verdict_has_its_reason_with_units() -> None:
    around = steps([0.25] * 10)
    far = StepTime(step=99, generation=1, seconds=41.0)
    verdict = judge(far, around)
    assert (verdict.step, verdict.seen, verdict.guessed) == (99, 0.0, 40.75)
    assert verdict.reason == "41.0 s, its neighbours 0.25 s"
    assert "not held against" in judge(far, around[:2]).reason
    busy = StepTime(step=99, generation=1, seconds=41.0, cpu=30.0)
    known = steps([0.25] * 10, cpu=0.2)
    assert judge(busy, known).guessed == 0.0
    assert "computed for 29.8 s" in judge(busy, known).reason


def test_a_standing_step_is_told_of_by_its_number() -> None:
    found = Standstill()
    for time in steps(run(100, 0.5, at20=5.0, at50=40.0)):
        found.add(time)
    assert [verdict.step for verdict in found.alone()] == [20, 50]


def test_lines_of_old_have_less_to_say_and_are_read_as_well() -> None:
    lines = [{"step": n, "step_seconds": s} for n, s in enumerate(run(30, 0.5, at20=40.0), 1)]
    assert Standstill.over([{"step": 0}, {"step": 0, "step_seconds": None}, *lines]).seconds == 40.0


TIMES = st.builds(
    StepTime,
    step=st.integers(1, 1000),
    generation=st.integers(1, 3),
    seconds=st.floats(0.0, 1e4),
    seen=st.floats(0.0, 1e4),
    waited=st.floats(0.0, 1e4),
    cpu=st.none() | st.floats(0.0, 1e4),
)


def bounded(time: StepTime) -> StepTime:
    return StepTime.of(
        {
            "step": time.step,
            "generation": time.generation,
            "step_seconds": time.seconds,
            "stood_still": time.seen,
            "waited_seconds": time.waited,
            "cpu_seconds": time.cpu,
        }
    )


@given(st.lists(TIMES.map(bounded), max_size=60))
def test_no_step_stands_still_for_longer_than_it_takes(times: list[StepTime]) -> None:
    total = stood(times)
    assert 0.0 <= total <= sum(time.seconds for time in times) + 1e-6


@given(
    st.floats(0.01, 20.0),
    st.floats(0.7, 1.4),
    st.integers(UNSETTLED_STEPS + NEIGHBOURS, 60),
    st.floats(3.5, 1e4),
    st.randoms(use_true_random=False),
)
def test_one_stop_is_found_in_any_quiet_run(
    usual: float,
    noise: float,
    at: int,
    longer: float,
    chance: random.Random,
) -> None:
    low, high = sorted((1.0, noise))
    seconds = [usual * chance.uniform(low, high) for _ in range(80)]
    assert stood(steps(seconds)) == 0.0
    stopped = max(longer, 8 * usual)
    seconds[at - 1] += stopped
    assert stood(steps(seconds)) == pytest.approx(stopped, abs=0.5 * usual)


@pytest.mark.parametrize("made", [lambda: [0.3] * 5000, lambda: [0.3, 9.0] * 2500])
def test_memory_is_bounded(made: Callable[[], list[float]]) -> None:
    found = Standstill()
    for time in steps(made()):
        found.add(time)
    assert len(found._window) <= 2 * NEIGHBOURS + 1
    assert len(found._guesses) < 100
