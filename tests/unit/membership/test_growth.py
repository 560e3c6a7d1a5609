"""Nodes that come later, and operators who want more or fewer."""

from __future__ import annotations

import pytest

from rendezvous.membership import (
    AskBoundary,
    Finished,
    KeepSpare,
    Left,
    Note,
    Publish,
    Running,
    ScaleAsked,
    WorkerFailed,
)
from tests.unit.membership.story import Story


def test_a_newcomer_enters_at_a_step_boundary():
    """
    1. three nodes train
    2. d joins: nothing happens until the job may grow again
    3. the members are asked to leave at the next boundary; the generation goes on until they have
    4. generation 2 has d at its end
    """
    story = Story()
    story.begin("a", "b", "c")
    story.join("d")
    assert "enters with the next generation" in story.only(KeepSpare).reason
    story.after(28.0)
    assert story.saw(AskBoundary) == []
    story.after(2.0)
    ask = story.only(AskBoundary)
    assert (ask.generation, ask.to) == (1, ("a", "b", "c"))
    assert ask.reason == "node d joined"
    story.leave_boundary("a", "b")
    assert story.published() == []
    story.leave_boundary("c")
    assert story.published() == ["abcd"]
    assert story.generation.reason == "node d joined"


def test_growth_is_not_repeated_within_the_interval():
    story = Story(max_nodes=8)
    story.begin("a", "b")
    story.after(31.0)
    story.join("c")
    story.leave_boundary("a", "b")
    story.run()
    assert story.members == "abc"
    story.join("d")
    story.after(29.0)
    assert story.saw(AskBoundary) == []
    story.after(1.1)
    story.only(AskBoundary)


def test_growth_waits_until_the_generation_runs():
    story = Story()
    story.join("a", "b")
    story.after(40.0)
    story.join("c")
    assert story.saw(AskBoundary) == []
    story.run()
    assert any(isinstance(effect, AskBoundary) for effect in story.told)


def test_who_does_not_leave_in_time_is_not_waited_for():
    story = Story(boundary_timeout=5.0)
    story.begin("a", "b", "c")
    story.join("d")
    story.after(31.0)
    story.leave_boundary("a")
    story.after(5.0)
    assert story.published() == ["abcd"]


def test_a_newcomer_that_goes_again_costs_a_generation_only_if_it_was_asked_for():
    story = Story()
    story.begin("a", "b", "c")
    story.join("d")
    story.cut("d")
    story.after(60.0)
    assert story.saw(AskBoundary) == []
    story.join("d")
    story.only(AskBoundary)
    story.cut("d")
    story.after(1.0)
    story.leave_boundary("a", "b", "c")
    assert story.published() == ["abc"]
    assert story.number == 2
    story.run()
    story.join("d")
    assert story.saw(AskBoundary) == [], "not at once again"


def test_a_loss_during_the_wait_for_the_boundary_does_not_wait():
    story = Story()
    story.begin("a", "b", "c")
    story.join("d")
    story.after(31.0)
    story.leave_boundary("a")
    story.cut("b")
    story.after(0.3)
    assert story.published() == ["adc"]
    assert story.generation.reason.startswith("node b was lost")


def test_a_late_report_about_an_old_generation_changes_nothing():
    story = Story()
    story.begin("a", "b", "c")
    story.join("d")
    story.after(31.0)
    old = story.number
    story.leave_boundary("a", "b", "c")
    story.run()
    assert story.number == old + 1
    who = story.who("b")
    for event in (
        Left(generation=old, version=10, store_endpoint="b.example:99", **who),
        Running(generation=old, **who),
        Finished(generation=old, status="failed", **who),
        WorkerFailed(generation=old, rank=2, exit_code=1, **who),
        Left(generation=old + 1000, version=3, **who),
    ):
        assert story.act(event) == []
    story.after(5.0)
    assert story.number == old + 1


def test_an_operator_makes_the_job_smaller_and_larger():
    story = Story()
    story.begin("a", "b", "c", "d")
    story.act(ScaleAsked(nodes=2))
    ask = story.only(AskBoundary)
    assert (ask.reason, ask.going) == ("the job shrinks from 4 to 2 nodes", ("c", "d"))
    story.leave_boundary("a", "b", "c", "d")
    assert story.published() == ["ab"]
    assert story.only(Publish).to == ("a", "b", "c", "d"), "c and d hear that it is over for them"
    assert [spare.node for spare in story.saw(KeepSpare)] == ["c", "d"]
    story.run()
    story.after(60.0)
    assert story.number == 2, "the spares don't make it grow"
    story.act(ScaleAsked(nodes=4))
    story.only(AskBoundary)
    story.leave_boundary("a", "b")
    assert story.published() == ["abcd"]


@pytest.mark.parametrize("nodes", [0, 1, 3, 6])
def test_a_size_that_the_job_cannot_have_is_declined(nodes):
    story = Story(node_multiple=2)
    story.begin("a", "b", "c", "d")
    story.act(ScaleAsked(nodes=nodes))
    assert "it needs 2 to 4, a multiple of 2" in story.only(Note).reason
    story.after(60.0)
    assert story.number == 1
