"""How a job ends, and who is told."""

from __future__ import annotations

import pytest

from rendezvous.membership import EndJob, Finished, StopAsked
from tests.unit.membership.story import Story


def test_a_job_is_complete_when_all_members_are():
    story = Story()
    story.begin("a", "b", "c")
    story.finish("a", "b")
    assert story.saw(EndJob) == []
    story.finish("c")
    end = story.only(EndJob)
    assert (end.status, end.reason) == ("completed", "3 nodes completed the job")
    assert end.to == ("a", "b", "c")
    assert story.membership.next_deadline() is None


def test_late_joiners_are_told():
    story = Story()
    story.begin("a", "b")
    story.finish("a", "b")
    story.join("c", incarnation=5)
    end = story.only(EndJob)
    assert (end.status, end.to) == ("completed", ("c",))
    assert story.number == 1


def test_who_is_lost_after_the_others_finished_does_not_undo_it():
    story = Story()
    story.begin("a", "b", "c")
    story.finish("a", "b")
    story.cut("c")
    story.after(1.5)
    end = story.only(EndJob)
    assert end.status == "completed"
    assert "after node c was lost" in end.reason


def test_a_loss_before_all_have_finished_begins_a_generation_for_the_rest():
    story = Story()
    story.begin("a", "b", "c")
    story.finish("a")
    story.cut("c")
    story.after(0.3)
    assert story.published() == ["ab"]
    story.finish("a", "b")
    assert story.only(EndJob).status == "completed"


def test_nobody_is_asked_to_grow_a_job_that_is_about_to_finish():
    story = Story()
    story.begin("a", "b", "c")
    story.join("d")
    story.finish("a")
    story.after(100.0)
    assert story.effects == []


def test_a_node_that_gives_up_fails_the_job():
    story = Story()
    story.begin("a", "b")
    reason = "model.dim: 7 is not a multiple of 8"
    story.act(Finished(generation=1, status="failed", reason=reason, **story.who("b")))
    end = story.only(EndJob)
    assert end.status == "failed"
    assert end.reason == "node b gave the job up: model.dim: 7 is not a multiple of 8"


def test_an_operator_stops_the_job_and_new_processes_resume_it():
    story = Story()
    story.begin("a", "b")
    story.act(StopAsked(reason="maintenance"))
    assert story.only(EndJob).status == "stopped"
    story.join("b", generation=1)
    assert story.only(EndJob).reason == "maintenance", "an old process is told"
    story.join("a", "b", incarnation=2)
    story.after(1.0)
    assert story.published() == ["ab"]
    assert story.number == 2


def test_a_new_process_that_knows_of_an_earlier_start_resumes_a_stopped_job():
    story = Story()
    story.begin("a", "b")
    story.act(StopAsked(reason="maintenance"))
    story.join("c", "d", earlier=1)
    story.after(1.0)
    assert story.published() == ["cd"]
    assert story.number == 2


def test_nodes_that_stop_together_leave_a_job_that_can_be_resumed():
    story = Story()
    story.begin("a", "b")
    story.finish("a", "b", status="stopped")
    assert story.only(EndJob).status == "stopped"


def test_a_job_that_is_resumed_waits_for_its_nodes_as_at_the_first_start():
    """`wait` may be short: it is for nodes that were there a moment ago."""
    story = Story(wait=2.0, join_timeout=300.0)
    story.begin("a", "b")
    story.cut("b")
    story.after(3.0)
    assert story.only(EndJob).status == "stopped"
    story.beating.clear()
    story.join("a", incarnation=2)
    story.after(200.0)
    assert story.saw(EndJob) == []
    story.join("b", incarnation=2)
    story.after(2.0)
    assert story.members == "ab"


@pytest.mark.parametrize("status", ["completed", "stopped"])
@pytest.mark.parametrize("gone", ["lost", "failed", "left by itself", "silent"])
def test_what_all_ranks_agreed_on_is_undone_by_nobody(gone: str, status: str):
    """Without that agreement each of these but the last begins another generation."""
    story = Story()
    story.begin("a", "b", "c")
    story.finish("a", status=status, whole=True)
    assert story.saw(EndJob) == [], "the others mostly say it too, in a moment"
    if gone == "lost":
        story.cut("c")
        story.after(0.3)
    elif gone == "failed":
        story.fail("c", rank=5)
    elif gone == "left by itself":
        story.leave_boundary("c")
    else:
        story.after(story.spec.beat_timeout)
    assert story.published() == []
    assert story.only(EndJob).status == status
    assert "a" in story.only(EndJob).to


def test_who_knows_that_all_are_done_and_goes_ends_the_job_for_the_others():
    """
    1. all ranks of two nodes agree that they are done while no service is there
    2. one comes back in time, node b, says so and goes; the other is never heard of again
    """
    story = Story()
    story.begin("a", "b")
    story.beating.clear()
    story.new_leader()
    story.join("b", generation=1)
    story.finish("b", whole=True)
    story.go("b")
    end = story.only(EndJob)
    assert (end.status, end.reason) == ("completed", "2 nodes completed the job, after node b left")
    story.join("a", incarnation=2)
    assert story.only(EndJob).status == "completed", "whoever starts it again is told"


def test_a_job_whose_nodes_ended_unheard_is_not_left_as_running():
    story = Story(wait=60.0)
    story.begin("a", "b")
    story.beating.clear()
    story.new_leader()
    story.after(story.spec.leader_grace + 0.1)
    assert story.membership.view(story.now).active is False
    story.after(60.0)
    end = story.only(EndJob)
    assert (end.status, end.reason) == ("stopped", "0 nodes after 60 s, at least 2 needed")


def test_a_job_whose_nodes_ended_unheard_can_be_started_again():
    story = Story(wait=60.0)
    story.begin("a", "b")
    story.beating.clear()
    story.new_leader()
    story.join("a", "b", incarnation=2, earlier=1)
    assert [member.incarnation for member in story.generation.members] == [2, 2]
    assert story.number == 2


def test_members_that_were_all_done_when_they_were_given_up_have_completed_the_job():
    """
    1. a new leader hears of none of three members, and gives the generation up
    2. two come back; by what one of them says all ranks had agreed that they were done
    """
    story = Story(min_nodes=3)
    story.begin("a", "b", "c")
    story.beating.clear()
    story.new_leader()
    story.after(story.spec.leader_grace + 0.1)
    assert not story.membership.view(story.now).active
    story.join("a", "b", generation=1)
    story.finish("a")
    assert story.saw(EndJob) == []
    story.finish("b", whole=True)
    assert story.only(EndJob).status == "completed"
