"""What a service does unasked costs no more, however many streams and jobs it has."""

from __future__ import annotations

import pytest

from rendezvous.service.pace import look_interval, pulse_interval


@pytest.mark.parametrize("count", [0, 1, 10, 100, 1_000, 10_000])
def test_what_is_done_in_a_second_is_bounded(count: int) -> None:
    assert count / pulse_interval(1.0, count) <= 100.5
    assert count / look_interval(0.25, count) <= 500.5
    assert pulse_interval(1.0, count) >= 1.0
    assert look_interval(0.25, count) >= 0.25
