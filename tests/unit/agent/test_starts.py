"""Processes that end before they are ready, told as stories."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.agent.story import KILLED, LOOP, Story, generation
from trainer.agent import actions as act
from trainer.agent import facts
from trainer.agent.process import Exit

ONE = Exit(1, None)
OWN = replace(LOOP, own=True)
NO_TORCH = ("ImportError: libx.so", "ImportError: libx.so")


def shown(story: Story) -> list[str]:
    return [action.text for action in story.did(act.Show)]


def test_an_error_that_every_start_has_is_not_tried_again() -> None:
    story = Story(LOOP)
    story.hear(facts.Exited(1, ONE, *NO_TORCH))
    assert shown(story) == [
        "workers end before they are ready (exit code 1): ImportError: libx.so; trying again"
    ]
    assert story.did(act.Spawn) == [act.Spawn(3, standby=False)]
    story.hear(facts.Exited(2, ONE, *NO_TORCH))
    assert [kill.process for kill in story.did(act.Kill)] == [3], "it hears nothing yet"
    story.hear(facts.Exited(3, KILLED))
    (depart,) = story.did(act.Depart)
    assert (depart.code, depart.status) == (1, "failed")
    assert depart.reason == (
        "workers end before they are ready (exit code 1): ImportError: libx.so"
    )


def test_an_error_that_one_start_has_is_tried_again_and_shown_once() -> None:
    story = Story(LOOP)
    story.hear(facts.Exited(1, ONE, *NO_TORCH))
    story.hear(facts.Exited(3, ONE, *NO_TORCH))
    assert shown(story) == []
    assert not story.state.ending
    story.hear(facts.Hello(2))
    story.hear(facts.Exited(4, ONE, *NO_TORCH), facts.Exited(5, ONE, *NO_TORCH))
    assert not story.state.ending, "since a start succeeded, these are the first and the second"
    story.hear(facts.Exited(6, ONE, *NO_TORCH))
    assert story.state.ending


def test_different_errors_or_such_as_may_pass_are_tried_three_times() -> None:
    for errors in (("a", "b", "c"), ("", "", "")):
        story = Story(LOOP)
        for process, error in enumerate(errors, start=1):
            assert not story.state.ending
            story.hear(facts.Exited(process, ONE, "it said", error))
        assert story.state.ending
        story.hear(*(facts.Exited(slot.process, KILLED) for slot in story.state.slots))
        (depart,) = story.did(act.Depart)
        assert depart.reason.endswith(": it said; that was start 3 in a row to fail")


def test_a_script_that_ends_well_without_the_call_is_told_so_at_once() -> None:
    story = Story(OWN)
    story.hear(facts.Exited(1, Exit(0, None), "done", "done"), facts.Exited(2, Exit(0, None)))
    (depart,) = story.did(act.Depart)
    assert (depart.code, depart.status) == (2, "failed")
    assert depart.reason.startswith("the script ended and has not called trainer.elastic; ")


def test_a_start_that_takes_long_is_spoken_of_once() -> None:
    story = Story(OWN)
    assert story.state.next_deadline() == 60.0
    story.wait(61)
    (text,) = shown(story)
    assert text.startswith(
        "no worker of this node is ready after 60 s; with --elastic a script has"
    )
    assert story.wait(600) == []
    quick = Story(LOOP)
    quick.hear(facts.Hello(1))
    assert quick.wait(600) == []


def test_a_standby_that_can_not_start_is_said_once_and_not_started_again() -> None:
    story = Story(LOOP).running()
    steps = [facts.Stepped(process, 1, step) for step in (1, 2, 3) for process in (1, 2)]
    story.hear(*steps)
    assert story.did(act.Spawn) == [act.Spawn(3, standby=True)]
    story.hear(facts.Exited(3, ONE, "OSError: port 1 is taken", ""))
    assert shown(story) == [
        "a standby ended before it was ready (exit code 1): OSError: port 1 is taken; "
        "this generation goes on without"
    ]
    story.hear(*(facts.Stepped(process, 1, step) for step in range(4, 9) for process in (1, 2)))
    assert story.did(act.Spawn) == []
    # In the next generation it is tried once more, and not spoken of again.
    story.hear(facts.Began(generation(2)), facts.Left(1, 1, 8), facts.Left(2, 1, 8))
    story.hear(facts.Entered(1, 2, 8), facts.Entered(2, 2, 8))
    story.hear(*(facts.Stepped(process, 2, step) for step in (9, 10, 11) for process in (1, 2)))
    assert story.did(act.Spawn) == [act.Spawn(4, standby=True)]
    story.hear(facts.Exited(4, ONE, "OSError: port 1 is taken", ""))
    assert story.done == []


def test_a_standby_that_was_ready_is_replaced_but_not_for_ever() -> None:
    story = Story(LOOP).running().with_standby()
    for process in (3, 4):
        story.hear(facts.Exited(process, KILLED))
        assert story.did(act.Spawn) == [act.Spawn(process + 1, standby=True)]
        story.hear(facts.Hello(process + 1))
    story.hear(facts.Exited(5, KILLED))
    assert story.done == []
