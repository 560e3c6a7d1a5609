"""A new leader knows what was stored, and disturbs nobody."""

from __future__ import annotations

from rendezvous.membership import EndJob, KeepSpare, Membership, NewLeader, Publish
from tests.unit.membership.story import Story


def test_a_change_of_leader_disturbs_nobody():
    story = Story()
    story.begin("a", "b", "c")
    beating = dict(story.beating)
    story.beating.clear()
    assert story.new_leader() == []
    story.after(3.0)
    for node, incarnation in beating.items():
        story.join(node, incarnation=incarnation, generation=1)
        assert story.effects == []
    story.after(60.0)
    assert story.number == 1


def test_who_does_not_come_back_to_the_new_leader_is_lost():
    story = Story()
    story.begin("a", "b", "c")
    story.beating.clear()
    story.new_leader()
    story.join("a", "c", generation=1)
    story.after(4.9)
    assert story.published() == []
    story.after(0.2)
    assert story.published() == ["ac"]
    reason = "node b was lost: not back within 5.0 s of the change of leader"
    assert story.generation.reason == reason


def test_a_failure_under_the_new_leader_waits_until_all_are_back():
    story = Story()
    story.begin("a", "b", "c")
    story.beating.clear()
    story.new_leader()
    story.join("a", "b", generation=1)
    story.fail("a", rank=0)
    assert story.published() == []
    story.join("c", generation=1)
    assert story.published() == ["abc"]


def test_who_missed_a_generation_is_told():
    story = Story()
    story.begin("a", "b", "c")
    story.cut("c")
    story.after(0.3)
    story.new_leader()
    story.join("a", generation=1)
    publish = story.only(Publish)
    assert (publish.to, publish.generation.number) == (("a",), 2)
    story.join("c", generation=1)
    assert story.only(Publish).to == ("c",)
    assert story.only(KeepSpare).generation == 2


def test_a_waiting_job_goes_on_waiting():
    story = Story()
    story.begin("a", "b")
    story.cut("b")
    story.after(0.3)
    story.beating.clear()
    story.new_leader()
    story.join("a", generation=1)
    assert story.published() == []
    story.join("b", incarnation=2)
    assert story.published() == ["ab"]
    assert story.number == 2


def test_a_drain_survives_the_leader():
    story = Story()
    story.begin("a", "b", "c")
    story.drain("b")
    story.new_leader()
    story.join("a", "b", "c", generation=1)
    story.leave_boundary("a", "b", "c")
    assert story.members == "ac"


def test_the_end_survives_the_leader():
    story = Story()
    story.begin("a", "b")
    story.finish("a", "b")
    story.new_leader()
    story.join("a", generation=1)
    assert story.only(EndJob).status == "completed"


def test_the_budget_survives_the_leader():
    story = Story(max_restarts=1)
    story.begin("a", "b")
    story.fail("a", rank=0, step=1)
    story.new_leader()
    story.join("a", "b", generation=2)
    story.fail("b", rank=2, step=2)
    assert story.only(EndJob).status == "failed"


def test_a_service_that_has_forgotten_everything_does_not_count_from_one():
    story = Story()
    story.begin("a", "b")
    story.record = None
    story.new_leader()
    story.join("a", "b", generation=41)
    story.after(5.1)
    assert story.number == 42


def test_a_leader_of_nothing_waits_for_nothing():
    membership = Membership(lambda: "a secret")
    assert membership.step(NewLeader(record=None), 5.0) == ()
    assert membership.next_deadline() is None
