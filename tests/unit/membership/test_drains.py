"""Nodes that go with notice, and hand over what they have."""

from __future__ import annotations

from rendezvous.membership import (
    AskBoundary,
    AskDrain,
    DrainAsked,
    DrainDone,
    EndJob,
    KeepSpare,
    Note,
    Publish,
)
from tests.unit.membership.story import Story


def test_a_drained_node_goes_after_the_others_have_its_state():
    """
    1. b is told to go; all are asked to leave at the next boundary
    2. generation 2 is without b, and b hears of it: it can hand over its state
    3. the others run: b may go
    4. its going disturbs nobody
    """
    story = Story()
    story.begin("a", "b", "c")
    story.drain("b")
    assert story.only(AskBoundary).reason == "node b drains (SIGTERM)"
    assert story.saw(AskDrain) == [], "it knows"
    story.leave_boundary("a", "b", "c")
    publish = story.only(Publish)
    assert (story.members, publish.to) == ("ac", ("a", "c", "b"))
    assert story.saw(DrainDone) == []
    story.run()
    done = story.only(DrainDone)
    assert (done.node, done.handed_over) == ("b", True)
    assert done.reason == "generation 2 runs without node b"
    story.cut("b")
    story.after(5.0)
    assert story.number == 2
    assert story.record is not None
    assert story.record.drains == {}


def test_several_nodes_drain_at_once():
    story = Story()
    story.begin("a", "b", "c", "d")
    story.drain("b")
    story.drain("d", reason="spot notice")
    story.leave_boundary("a", "b", "c", "d")
    assert story.published() == ["ac"]
    expected = "node b drains (SIGTERM); node d drains (spot notice)"
    assert story.generation.reason == expected
    story.act(DrainAsked(grace=30.0, reason="SIGTERM", **story.who("b")))
    story.run()
    assert sorted(done.node for done in story.told if isinstance(done, DrainDone)) == ["b", "d"]


def test_a_drain_does_not_depend_on_the_end_of_the_step():
    story = Story()
    story.begin("a", "b", "c")
    story.drain("b", grace=10.0)
    story.after(4.9)
    assert story.published() == []
    story.after(0.2)
    assert story.published() == ["ac"], "half of the grace is left for handing over"


def test_the_grace_ends_although_the_others_do_not_run():
    story = Story()
    story.begin("a", "b", "c")
    story.drain("b", grace=10.0)
    story.after(11.0)
    done = story.only(DrainDone)
    assert (done.handed_over, done.reason) == (False, "the grace period is over")


def test_a_second_notice_is_more_urgent():
    story = Story()
    story.begin("a", "b", "c")
    story.drain("b", grace=1000.0)
    story.drain("b", grace=2.0)
    assert story.published() == ["ac"]


def test_a_spare_takes_the_drained_nodes_place():
    story = Story()
    story.begin("a", "b", "c", "d")
    story.join("e")
    story.drain("b")
    story.leave_boundary("a", "b", "c", "d")
    assert story.published() == ["aecd"]


def test_a_spare_may_go_at_once():
    story = Story()
    story.begin("a", "b", "c", "d")
    story.join("e")
    story.drain("e")
    assert story.only(DrainDone).reason == "node e has no state"


def test_when_every_node_drains_all_leave_together_and_the_job_waits_for_others():
    """
    1. a and b are told to go; both leave at one boundary
    2. nobody takes their state over: each should save what it has
    3. new nodes carry the job on, together
    """
    story = Story()
    story.begin("a", "b")
    story.drain("a")
    story.drain("b")
    story.leave_boundary("a", "b")
    assert story.saw(EndJob) == []
    done = [effect for effect in story.told if isinstance(effect, DrainDone)]
    assert {(effect.node, effect.handed_over) for effect in done} == {("a", False), ("b", False)}
    story.cut("a")
    story.cut("b")
    story.join("c", "d")
    assert story.published() == [], "more may come"
    story.join("e", "f")
    assert story.published() == ["cdef"]


def test_a_job_that_all_have_left_stops_after_a_while_and_can_be_resumed():
    story = Story(min_nodes=1, max_nodes=1)
    story.begin("a")
    story.drain("a", reason="spot notice")
    story.leave_boundary("a")
    story.cut("a")
    story.after(story.spec.wait + 1.0)
    end = story.only(EndJob)
    assert (end.status, story.record.ended.by) == ("stopped", "nodes")
    story.join("a", incarnation=2, earlier=1)
    assert story.published() == ["a"]


def test_a_drain_below_the_minimum_leaves_the_others_waiting():
    story = Story()
    story.begin("a", "b")
    story.drain("b")
    story.leave_boundary("a", "b")
    assert story.published() == []
    assert story.only(KeepSpare).node == "a"
    assert story.only(DrainDone).handed_over is False
    story.cut("b")
    story.join("c")
    assert story.published() == ["ac"]


def test_an_operators_wish_is_passed_on():
    story = Story()
    story.begin("a", "b", "c")
    story.act(DrainAsked(node="b", grace=20.0, reason="maintenance"))
    ask = story.only(AskDrain)
    assert (ask.node, ask.grace, ask.reason) == ("b", 20.0, "maintenance")
    story.only(AskBoundary)
    story.cut("b")
    story.after(0.1)
    story.beating["b"] = 1
    story.join("b", generation=1)
    assert story.only(AskDrain).grace < 20.0, "told again after it was away"


def test_nobody_can_drain_who_is_not_here():
    story = Story()
    story.begin("a", "b", "c")
    story.act(DrainAsked(node="x", grace=20.0, reason="maintenance"))
    assert story.only(Note).reason == "node x can't be drained: it is not here"
    assert story.act(DrainAsked(node="b", incarnation=7, grace=20.0, reason="late")) == []


def test_a_drained_node_may_come_back_as_a_new_process():
    story = Story()
    story.begin("a", "b", "c")
    story.drain("b")
    story.leave_boundary("a", "b", "c")
    story.run()
    story.cut("b")
    story.join("b", incarnation=2)
    assert "enters with the next generation" in story.only(KeepSpare).reason


def test_a_draining_node_that_dies_is_lost():
    story = Story()
    story.begin("a", "b", "c")
    story.drain("b")
    story.cut("b")
    story.after(0.3)
    assert story.published() == ["ac"]
    assert story.generation.reason.startswith("node b was lost")


def test_who_drains_later_is_told_to_the_others_before_they_leave_state_with_it():
    story = Story()
    story.begin("a", "b", "c", "d")
    story.drain("b")
    assert story.only(AskBoundary).going == ("b",)
    story.leave_boundary("b")
    story.drain("c", reason="spot notice")
    again = story.only(AskBoundary)
    assert again.going == ("b", "c")
    assert again.to == ("a", "b", "c", "d"), "b might have left its state with c"
    story.drain("c")
    assert story.saw(AskBoundary) == [], "once is enough"


def test_a_drain_that_leaves_too_few_is_not_handed_over():
    """The others can only wait: who goes should save what it has."""
    story = Story()
    story.begin("a", "b")
    story.drain("b")
    assert story.only(AskBoundary).going == ("b",)
    story.leave_boundary("a", "b")
    assert story.published() == []
    assert story.only(KeepSpare).node == "a"
    done = story.only(DrainDone)
    assert (done.node, done.handed_over) == ("b", False)
    story.go("b")
    story.drain("a")
    assert not story.only(DrainDone).handed_over
