"""What an agent takes for a hang, and what not."""

from __future__ import annotations

import pytest

from tests.unit.agent.story import LOOP, Story, generation
from trainer.agent import actions as act
from trainer.agent import facts


def steps(story: Story, *numbers: int, every: float) -> None:
    for number in numbers:
        story.now += every
        story.hear(*(facts.Stepped(slot.process, 1, number) for slot in story.state.slots))


def test_a_hang_ends_the_generation_and_the_one_that_hangs_is_replaced() -> None:
    story = Story(LOOP).running()
    steps(story, 1, 2, 3, every=0.1)
    assert story.state.next_deadline() == pytest.approx(story.now + 30.0)
    assert story.wait(29.0) == []
    assert story.wait(1.5) == []
    story.wait(1.0)
    assert story.did(act.Dump) == [act.Dump(1, "worker.hung"), act.Dump(2, "worker.hung")]
    (told,) = story.did(act.TellFailed)
    assert (told.code, told.signal, told.step) == (None, None, 3)
    assert "side by side" in told.cause
    assert [i.process for i in story.did(act.Interrupt)] == [1, 2]
    story.hear(facts.Began(generation(2)), facts.Left(1, 1, 3))
    assert story.wait(5.1) == [act.Dump(2, "worker.stuck")]
    assert story.killed_after(0.6) == [2]


def test_the_rank_that_is_behind_is_named() -> None:
    story = Story(LOOP).running()
    steps(story, 1, 2, 3, every=0.1)
    story.hear(facts.Stepped(1, 1, 4))
    story.wait(30.5)
    story.wait(1.0)
    (told,) = story.did(act.TellFailed)
    assert (told.rank, told.step, told.cause) == (1, 3, "no step for 32 s")


def test_words_that_were_only_late_are_no_hang() -> None:
    story = Story(LOOP).running()
    steps(story, 1, 2, every=0.1)
    story.wait(1000.0)
    story.hear(facts.Stepped(1, 1, 3), facts.Stepped(2, 1, 3))
    assert story.wait(2.0) == []
    assert story.did(act.TellFailed) == []


def test_waiting_for_storage_is_no_hang_and_what_comes_after_may_be() -> None:
    story = Story(LOOP).running().with_standby()
    story.hear(facts.Waits(1, 1, on=True), facts.Waits(2, 1, on=True))
    assert story.wait(600.0) == []
    story.hear(facts.Waits(1, 1, on=False))
    assert story.wait(600.0) == []
    story.hear(facts.Waits(2, 1, on=False))
    assert story.wait(29.0) == []
    story.wait(2.0)
    story.wait(2.0)
    assert [dump.event for dump in story.did(act.Dump)] == ["worker.hung"] * 2


def test_slow_steps_are_no_hang_and_the_first_may_compile() -> None:
    story = Story(LOOP).running()
    assert story.wait(600.0) == []
    steps(story, 1, 2, 3, 4, every=20.0)
    assert story.state.next_deadline() == pytest.approx(story.now + 200.0)
    story.hear(facts.Finished(1, 1, "completed"), facts.Finished(2, 1, "completed"))
    assert story.state.next_deadline() is None
