"""A node whose work is over while no rendezvous service is there to say so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.agent.story import KILLED, LOOP, SCRIPT, Story, generation
from trainer.agent import actions as act
from trainer.agent import facts
from trainer.agent.last_word import OTHERS_SECONDS
from trainer.agent.process import Exit
from trainer.agent.slot import Policy

WELL = Exit(0, None)
RAISED = Exit(1, None)
PATIENCE = LOOP.last_word_seconds
ALONE = SCRIPT.last_word_seconds + OTHERS_SECONDS


def departs(story: Story) -> list[tuple[int, str, bool]]:
    """(exit code, status, whether for everybody) once all processes have ended."""
    ends = [facts.Exited(slot.process, WELL) for slot in story.state.slots if slot.process]
    gone = story.did(act.Depart) or [
        action for end in ends for action in story.hear(end) if isinstance(action, act.Depart)
    ]
    return [(depart.code, depart.status, depart.whole) for depart in gone]


def done(story: Story, *, agreed: bool, status: str = "completed") -> None:
    story.hear(*(facts.Finished(p, 1, status, agreed) for p in (1, 2)))


def scripts(policy: Policy = SCRIPT, *nodes: str) -> Story:
    story = Story(policy)
    story.hear(facts.Began(generation(1, *(nodes or ("a", "b")))), facts.ServiceLost())
    return story


@pytest.mark.parametrize("status", ["completed", "stopped"])
@pytest.mark.parametrize("heard", [True, False])
def test_what_all_ranks_know_needs_no_service(heard: bool, status: str) -> None:
    """Also one that is heard, and can't write down that the job is over."""
    story = Story(LOOP).running(1, "a", "b")
    if not heard:
        story.hear(facts.ServiceLost())
    done(story, agreed=True, status=status)
    assert story.did(act.TellFinished) == [act.TellFinished(1, status, "", whole=True)]
    story.wait(PATIENCE - 0.1)
    assert not story.state.ending
    story.wait(0.2)
    assert departs(story) == [(0, status, True)]


def test_the_services_word_is_not_waited_for_once_it_is_there() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.ServiceLost())
    done(story, agreed=True)
    story.hear(facts.ServiceBack(), facts.Ended("completed", "2 nodes completed the job"))
    assert departs(story) == [(0, "completed", True)]


def test_who_knows_that_all_are_done_enters_no_generation_any_more() -> None:
    story = Story(LOOP).running(1, "a", "b")
    done(story, agreed=True)
    story.hear(facts.Began(generation(2, "a", "b")))
    assert story.done == [act.TellFinished(2, "completed", "", whole=True)]


def test_one_rank_knows_for_those_that_were_cut_off_in_the_last_exchange() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Left(2, 1, 9, error="connection reset"), facts.Finished(1, 1, "x", True))
    assert story.did(act.TellFinished) == [act.TellFinished(1, "completed", "", whole=True)]
    assert story.did(act.TellLeft) == []


def test_a_death_after_the_agreed_end_is_no_failure() -> None:
    story = Story(LOOP).running(1, "a", "b")
    done(story, agreed=True)
    story.hear(facts.Exited(1, KILLED))
    assert story.did(act.TellFailed) == story.did(act.Spawn) == []


def test_an_order_to_stop_that_comes_after_the_end_stops_nothing() -> None:
    story = Story(LOOP).running(1, "a", "b")
    done(story, agreed=True)
    story.hear(facts.Ended("stopped", "maintenance"))
    assert departs(story) == [(0, "completed", True)]


def test_notice_ends_the_waiting_and_not_the_run() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.ServiceLost())
    done(story, agreed=True)
    story.hear(facts.DrainAsked("SIGTERM", 30.0))
    assert departs(story) == [(0, "completed", True)]


def test_ranks_of_one_node_can_speak_for_that_node_only() -> None:
    story = scripts()
    story.hear(facts.Exited(1, WELL), facts.Exited(2, WELL))
    assert story.did(act.TellFinished) == [act.TellFinished(1, "completed", "")]
    story.wait(ALONE + 0.1)
    assert departs(story) == [(0, "completed", False)]


def test_a_service_that_is_heard_is_waited_for_where_others_may_still_run() -> None:
    story = scripts()
    story.hear(facts.ServiceBack(), facts.Exited(1, WELL), facts.Exited(2, WELL))
    story.wait(1000.0)
    assert not story.state.ending
    story.hear(facts.ServiceLost())
    story.wait(ALONE - 0.1)
    assert not story.state.ending
    story.wait(0.2)
    assert departs(story) == [(0, "completed", False)]


def test_what_the_run_directory_says_of_the_others_makes_it_the_runs_end() -> None:
    story = scripts()
    assert not story.state.wonders, "its own ranks still run"
    story.hear(facts.Exited(1, WELL), facts.Exited(2, WELL))
    assert story.state.wonders
    story.hear(facts.RunEnded(0, "completed", "all 2 nodes have ended well"))
    story.wait(ALONE + 0.1)
    assert departs(story) == [(0, "completed", True)]


@pytest.mark.parametrize(
    ("restarts_left", "patience"), [(0, SCRIPT.last_word_seconds), (1, SCRIPT.restart_seconds)]
)
def test_a_script_that_failed_waits_for_a_start_that_may_come(
    restarts_left: int, patience: float
) -> None:
    story = scripts(replace(SCRIPT, max_restarts=restarts_left))
    story.hear(facts.Exited(1, RAISED), facts.Exited(2, Exit(None, 15)))
    story.wait(patience - 0.1)
    assert not story.state.ending
    story.wait(0.2)
    assert departs(story) == [(1, "failed", True)]


def test_a_new_generation_takes_the_end_back() -> None:
    story = scripts()
    story.hear(facts.Exited(1, RAISED), facts.Exited(2, Exit(None, 15)))
    story.hear(facts.ServiceBack(), facts.Began(generation(2, "a", "b")))
    story.hear(facts.ServiceLost())
    story.wait(1000.0)
    assert not story.state.ending


@pytest.mark.parametrize(("how", "ends"), [(RAISED, True), (KILLED, False)])
def test_loop_workers_wait_with_their_state_unless_the_budget_is_spent(
    how: Exit, ends: bool
) -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.ServiceLost(), facts.Exited(1, how), facts.Left(2, 1, 9, "rank 0 is gone"))
    assert story.state.waiting
    story.wait(PATIENCE + 0.1)
    assert story.state.ending is ends


def test_who_is_left_without_peers_and_service_waits_and_leaves_at_once_when_told() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.ServiceLost())
    lost = [facts.Left(p, 1, 9, error="connection reset") for p in (1, 2)]
    story.hear(*lost)
    assert story.state.waiting
    assert story.state.wonders
    story.wait(10_000.0)
    assert not story.state.ending
    story.hear(facts.DrainAsked("SIGTERM", 30.0))
    assert story.did(act.Quit) == [act.Quit(1), act.Quit(2)]
    story.hear(facts.Exited(1, WELL), facts.Exited(2, WELL))
    (depart,) = story.did(act.Depart)
    assert (depart.code, depart.status, depart.whole) == (75, "drained", True)
    assert depart.save_seconds == 30.0


@pytest.mark.parametrize("first", ["service", "notice"])
def test_a_node_that_has_to_go_saves_with_all_others_when_nobody_can_take_over(first: str) -> None:
    story = Story(LOOP).running(1, "a", "b")
    heard = [facts.ServiceLost(), facts.DrainAsked("SIGTERM", 30.0)]
    for fact in heard if first == "service" else reversed(heard):
        story.hear(fact)
    asked = [act.Boundary(p, 1, "SIGTERM", save=True) for p in (1, 2)]
    assert story.did(act.Boundary) == asked
    story.hear(facts.Left(1, 1, 9), facts.Left(2, 1, 9))
    assert story.did(act.TellLeft) == [act.TellLeft(1, 9, "", going=True)]
    assert story.did(act.Quit) == [act.Quit(1), act.Quit(2)]
    assert departs(story) == [(75, "drained", True)]


def test_an_order_to_stop_that_only_another_node_heard_ends_this_one_too() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.ServiceLost())
    story.hear(*(facts.Left(p, 1, 9, stopped="maintenance") for p in (1, 2)))
    story.wait(PATIENCE + 0.1)
    assert departs(story) == [(75, "stopped", True)]


def test_a_spare_learns_from_the_run_directory_that_the_run_is_over() -> None:
    story = Story(LOOP)
    story.hear(facts.Hello(1), facts.Hello(2), facts.Began(generation(1, "b", "c")))
    assert not story.state.wonders
    story.hear(facts.ServiceLost(), facts.RunEnded(0, "completed", "all ranks are done"))
    assert departs(story) == [(0, "completed", True)]
