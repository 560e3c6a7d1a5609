"""What became of a run's time: the parts are its whole, whatever the clocks say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.telemetry.ledger import Ledger
from trainer.telemetry.shares import Shares

SECONDS = st.floats(0.0, 1e6)


@given(SECONDS, SECONDS, SECONDS, SECONDS)
def test_the_parts_make_up_the_whole(
    wall: float, counted: float, inside: float, between: float
) -> None:
    found = Shares.of(wall, counted=counted, inside=inside, between=between)
    parts = found.good, found.stood_still, found.other
    assert min(parts) >= 0.0
    assert sum(parts) == pytest.approx(wall)
    assert 0.0 <= found.goodput <= 1.0


def line(step: int, seconds: float, **more: float) -> dict:
    return {"step": step, "step_seconds": seconds, "generation": 1, "loss": 1.0, **more}


def test_a_run_that_was_stopped_for_40_of_95_s() -> None:
    """Its agent has seen 39.6 s of that, all within one step; it was up for 5 s more."""
    ledger = Ledger()
    for step in range(1, 101):
        still = {"stood_still": 39.6} if step == 60 else {}
        ledger.offer(line(step, 0.5 + (39.6 if step == 60 else 0.0), **still))
    ledger.seen_still = 39.6
    found = ledger.shares(95.0)
    assert found.good == pytest.approx(50.0)
    assert found.stood_still == pytest.approx(39.6)
    assert found.other == pytest.approx(5.4)
    assert found.goodput == pytest.approx(50 / 95)
    assert str(found) == "95.0 s up: 50.0 s good, 39.6 s stood still, 5.4 s other"


def test_what_was_seen_outside_steps_is_no_good_time_either_and_counts_once() -> None:
    """A machine that is suspended during a step: the step's clock stands still with it."""
    ledger = Ledger()
    for step in range(1, 21):
        ledger.offer(line(step, 1.0, **({"stood_still": 0.5} if step == 9 else {})))
    ledger.seen_still = 600.5
    found = ledger.shares(630.0)
    assert found.good == pytest.approx(20.0)
    assert found.stood_still == pytest.approx(600.0)


def test_a_new_writer_knows_of_it_from_the_lines() -> None:
    old = Ledger()
    told = [line(step, 0.5) for step in range(1, 61)]
    told[39] = line(40, 20.5, stood_still=20.0)
    lines = [made for each in told for made in old.offer(each)]
    assert lines[39]["stood_still"] == 20.0
    new = Ledger().renewed(lines)
    assert new.shares(60.0) == old.shares(60.0)
