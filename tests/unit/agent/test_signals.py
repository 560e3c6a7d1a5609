"""What a signal means that comes again, and who of a script's processes hears one."""

from __future__ import annotations

import signal

import pytest

from trainer.agent.audience import Relative, audience
from trainer.agent.leaving import SAME_NOTICE_SECONDS, Signals, Urgency, ends_of
from trainer.agent.process import Exit

TERM, INT = signal.SIGTERM, signal.SIGINT
JUST_BEFORE = SAME_NOTICE_SECONDS * 0.999


def heard(*times: float) -> list[Urgency]:
    signals = Signals()
    return [signals.hear(time) for time in times]


def test_the_same_notice_twice_is_one() -> None:
    """A terminal's Ctrl-C to all, a wrapper that passes it on, and the platform's own."""
    assert heard(7.0, 7.0, 7.3, 7.0 + JUST_BEFORE) == [
        Urgency.IN_ORDER,
        Urgency.NOTHING_MORE,
        Urgency.NOTHING_MORE,
        Urgency.NOTHING_MORE,
    ]


def test_a_later_one_is_impatience_however_many_came_between() -> None:
    bursts = [7.0 + tenth / 10 for tenth in range(10)]
    assert heard(*bursts, 7.0 + SAME_NOTICE_SECONDS)[-1] is Urgency.AT_ONCE
    assert heard(7.0, 60.0) == [Urgency.IN_ORDER, Urgency.AT_ONCE]


@pytest.mark.parametrize(
    ("how", "of_it"),
    [
        (Exit(None, TERM), True),
        (Exit(128 + TERM, None), True),
        (Exit(None, signal.SIGKILL), False),
        (Exit(128 + signal.SIGSEGV, None), False),
        (Exit(1, None), False),
        (Exit(0, None), False),
    ],
)
def test_what_ends_of_a_signal_to_all(how: Exit, of_it: bool) -> None:
    assert ends_of(how, (TERM, INT)) is of_it


def one(parent: int, *handled: int, program: str = "python3.11") -> Relative:
    return Relative(parent=parent, program=program, handled=frozenset(handled))


def test_who_has_a_handler_answers_for_its_children() -> None:
    group = {10: one(1, TERM), 11: one(10, TERM), 12: one(10), 13: one(12, program="ffmpeg")}
    assert audience(group, TERM) == {10}


def test_without_a_handler_all_hear_it_down_to_the_next_that_has_one() -> None:
    group = {10: one(1, INT), 11: one(10), 12: one(10, TERM), 13: one(12), 14: one(11)}
    assert audience(group, TERM) == {10, 11, 12, 14}
    assert audience(group, INT) == {10}
    assert audience({10: one(1), 11: one(10), 12: one(11)}, TERM) == {10, 11, 12}


def test_a_shell_is_not_what_does_the_work() -> None:
    shell = {10: one(1, TERM, program="bash"), 11: one(10, TERM, program="dash")}
    assert audience(shell | {12: one(11, TERM), 13: one(12)}, TERM) == {10, 11, 12}


def test_what_outlived_its_parent_hears_it_too() -> None:
    assert audience({10: one(1, TERM), 20: one(1), 21: one(20)}, TERM) == {10, 20, 21}
    assert audience({20: one(1), 21: one(20)}, TERM) == {20, 21}, "the root has ended"
    assert audience({}, TERM) == set()
