"""Ranks that fail before the first step are given the time to fail alike."""

from __future__ import annotations

from tests.unit.agent.story import LOOP, Story, generation
from trainer.agent import actions as act
from trainer.agent import facts
from trainer.agent.process import Exit

ONE = Exit(1, None)
ERROR = "ValueError: no head #"


def breaks(process: int, error: str = ERROR) -> tuple[facts.Broke, facts.Exited]:
    return facts.Broke(process, None, "ValueError: no head 3", error), facts.Exited(process, ONE)


def told(story: Story) -> list[tuple[int, str, bool]]:
    return [(failed.rank, failed.error, failed.whole) for failed in story.did(act.TellFailed)]


def test_the_first_failure_is_told_once_all_have_failed() -> None:
    story = Story(LOOP).running()
    assert story.hear(*breaks(1)) == [], "neither told, nor the other interrupted, nor replaced"
    story.hear(*breaks(2))
    assert told(story) == [(0, ERROR, True)]
    assert len(story.did(act.Spawn)) == 2


def test_another_error_or_none_makes_it_one_ranks_own() -> None:
    for other in (breaks(2, "KeyError"), breaks(2, ""), [facts.Left(2, 1, 0, error="gloo: gone")]):
        story = Story(LOOP).running()
        story.hear(*breaks(1))
        story.hear(*other)
        assert told(story) == [(0, ERROR, False)]
        assert story.did(act.TellLeft) == []


def test_who_goes_on_is_waited_for_only_a_moment() -> None:
    story = Story(LOOP).running()
    story.hear(*breaks(1))
    assert story.state.next_deadline() == 2.0
    assert story.wait(1.9) == []
    story.wait(0.2)
    assert told(story) == [(0, ERROR, False)]
    assert [i.process for i in story.did(act.Interrupt)] == [2]


def test_an_error_that_may_pass_or_comes_after_a_step_is_told_at_once() -> None:
    story = Story(LOOP).running()
    story.hear(*breaks(1, ""))
    assert told(story) == [(0, "", False)]
    story = Story(LOOP).running()
    story.hear(facts.Stepped(2, 1, 1), *breaks(1))
    assert told(story) == [(0, "", False)]


def test_the_end_or_a_newer_generation_makes_it_moot() -> None:
    story = Story(LOOP).running()
    story.hear(*breaks(1))
    story.hear(facts.Began(generation(2)))
    assert told(story) == []
    assert [i.process for i in story.did(act.Interrupt)] == [2]
    assert story.wait(2.5) == []
    story = Story(LOOP).running()
    story.hear(*breaks(1))
    story.hear(facts.Ended("failed", "enough"))
    assert told(story) == []
    assert story.wait(2.5) == []


def test_what_has_left_says_whether_a_step_was_done() -> None:
    for stepped in (False, True):
        story = Story(LOOP).running(1, "a", "b")
        if stepped:
            story.hear(facts.Stepped(1, 1, 1))
        story.hear(facts.Left(1, 1, 1, error="gone"), facts.Left(2, 1, 1))
        assert [left.stepped for left in story.did(act.TellLeft)] == [stepped]
