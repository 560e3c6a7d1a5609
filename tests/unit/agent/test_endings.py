"""How an agent ends: jobs that are over, drains, notices that run out."""

from __future__ import annotations

import signal

import pytest

from tests.unit.agent.story import KILLED, LOOP, Story, generation
from trainer.agent import actions as act
from trainer.agent import facts
from trainer.agent.process import Exit
from trainer.agent.state import EXIT_FAILED, EXIT_USAGE


def test_the_end_of_the_job_lets_workers_go_and_ends_with_0() -> None:
    story = Story(LOOP).running().with_standby()
    story.hear(facts.Finished(1, 1, "completed"), facts.Finished(2, 1, "completed"))
    assert story.did(act.TellFinished) == [act.TellFinished(1, "completed", "")]
    story.hear(facts.Ended("completed", "all done"))
    assert story.did(act.Quit) == [act.Quit(1), act.Quit(2)]
    assert [kill.process for kill in story.did(act.Kill)] == [3]
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(3, KILLED))
    assert story.did(act.Depart) == []
    story.hear(facts.Exited(2, Exit(0, None)))
    assert story.done == [act.Depart(0, "completed", "all done", whole=True)]
    assert story.wait(100) == []


def test_workers_that_do_not_go_are_killed() -> None:
    story = Story(LOOP).running()
    story.hear(facts.Finished(1, 1, "completed"), facts.Finished(2, 1, "completed"))
    story.hear(facts.Ended("completed", "all done"))
    assert story.killed_after(10.1) == [1, 2]
    assert story.said == "local rank 0, 1: not ended, 10 s after being told to; killed"


def test_a_peers_death_after_our_end_brings_us_in_again() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Finished(1, 1, "completed"), facts.Finished(2, 1, "completed"))
    story.hear(facts.Began(generation(2, "a")))
    assert [enter.process for enter in story.did(act.Enter)] == [1, 2]
    story.hear(facts.Finished(1, 2, "completed"), facts.Finished(2, 2, "completed"))
    assert story.did(act.TellFinished) == [act.TellFinished(2, "completed", "")]


@pytest.mark.parametrize(
    ("ended", "finished", "code"),
    [
        ("completed", "completed", 0),
        ("stopped", "stopped", 0),
        ("stopped", "", 75),
        ("failed", "", 1),
    ],
)
def test_exit_codes(ended: str, finished: str, code: int) -> None:
    story = Story(LOOP).running()
    if finished:
        story.hear(facts.Finished(1, 1, finished), facts.Finished(2, 1, finished))
    story.hear(facts.Ended(ended, "so"))
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    assert [depart.code for depart in story.did(act.Depart)] == [code]


@pytest.mark.parametrize("code", [EXIT_USAGE, EXIT_FAILED])
def test_a_job_that_cannot_go_on_is_ended_without_a_restart(code: int) -> None:
    story = Story(LOOP).running()
    story.hear(facts.Broke(1, code=code, message="the corpus is too small"))
    assert story.did(act.TellFinished) == [act.TellFinished(1, "failed", "the corpus is too small")]
    story.hear(facts.Exited(1, Exit(2, None)), facts.Exited(2, Exit(0, None)))
    assert [depart.code for depart in story.did(act.Depart)] == [code]
    assert story.did(act.TellFailed) == []


def test_a_refused_node_ends_with_2_and_without_a_word() -> None:
    story = Story(LOOP)
    story.hear(facts.Hello(1), facts.Hello(2), facts.TurnedAway("another job"))
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    assert story.did(act.Depart) == [act.Depart(2, "failed", "another job", whole=True)]


def test_a_node_that_can_take_no_part_any_more_has_failed() -> None:
    """Whether it had a part before or not: nothing that was asked for is wrong."""
    story = Story(LOOP)
    story.hear(facts.Hello(1), facts.Hello(2), facts.NodeBroke("no port"))
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    assert story.done == [act.Depart(1, "failed", "no port", whole=True)]
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.NodeBroke("no port"))
    assert [i.reason for i in story.did(act.Interrupt)] == ["no port"] * 2
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    # The others go on without it.
    assert story.done == [act.Depart(1, "failed", "no port", whole=False)]


def test_workers_that_never_get_ready_end_the_agent() -> None:
    story = Story(LOOP)
    process = 1
    for _ in range(2):
        story.hear(facts.Exited(process, Exit(1, None)))
        (spawn,) = story.did(act.Spawn)
        process = spawn.process
    story.hear(facts.Exited(process, Exit(1, None)))
    assert story.did(act.Spawn) == []
    story.hear(facts.Exited(2, KILLED))
    (depart,) = story.did(act.Depart)
    assert depart.code == 1
    assert "before they are ready" in depart.reason


def test_a_draining_node_among_others_hands_over_before_it_goes() -> None:
    story = Story(LOOP).running(1, "a", "b")
    asked = facts.DrainAsked("SIGTERM", 30.0, signal.SIGTERM)
    assert story.hear(asked) == [act.TellDrain(30.0, "SIGTERM")]
    story.hear(facts.BoundaryAsked(1, "node a drains"))
    assert [boundary.save for boundary in story.did(act.Boundary)] == [False, False]
    story.hear(facts.Left(1, 1, 9), facts.Left(2, 1, 9))
    assert story.done == [act.TellLeft(1, 9, "", going=True)]
    assert story.hear(facts.Began(generation(2, "b"))) == []
    story.hear(facts.DrainDone())
    assert story.did(act.Quit) == [act.Quit(1), act.Quit(2)]
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    assert [depart.code for depart in story.did(act.Depart)] == [75]


def test_the_last_node_saves_before_it_goes() -> None:
    story = Story(LOOP).running(1)
    story.hear(facts.DrainAsked("SIGTERM", 30.0))
    assert story.done == [act.Boundary(p, 1, "SIGTERM", save=True) for p in (1, 2)]
    story.hear(facts.Left(1, 1, 9), facts.Left(2, 1, 9))
    assert story.did(act.TellLeft) == []
    assert story.did(act.Quit) == [act.Quit(1), act.Quit(2)]


def test_the_end_of_the_grace_period_and_a_second_notice_end_at_once() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.DrainAsked("SIGTERM", 30.0))
    assert story.wait(29.0) == []
    assert story.killed_after(1.1) == [1, 2]
    assert "the notice ran out before the state was handed over, 30 s after it came" in story.said
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.DrainAsked("SIGTERM", 30.0), facts.Hurry())
    assert [kill.process for kill in story.did(act.Kill)] == [1, 2]
    story.hear(facts.Exited(1, KILLED), facts.Exited(2, KILLED))
    assert [depart.code for depart in story.did(act.Depart)] == [75]


def test_notice_before_there_is_anything_to_hand_over() -> None:
    story = Story(LOOP)
    story.hear(facts.DrainAsked("SIGINT", 30.0))
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    assert [depart.code for depart in story.did(act.Depart)] == [75]


def test_who_waited_in_vain_saves_what_is_staged_and_leaves_with_75() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Reserved(1, "why"), facts.Left(1, 1, 9), facts.Left(2, 1, 9))
    story.hear(facts.Ended("stopped", "1 node after 60 s, at least 2 needed"))
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    (depart,) = story.did(act.Depart)
    assert (depart.code, depart.status, depart.whole) == (75, "stopped", True)
    assert depart.save_seconds > 0


@pytest.mark.parametrize("handed_over", [True, False])
def test_what_nobody_takes_over_is_saved_in_what_is_left_of_the_grace(handed_over: bool) -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.DrainAsked("SIGTERM", 30.0), facts.BoundaryAsked(1, "drain", ("a",)))
    story.hear(facts.Left(1, 1, 9), facts.Left(2, 1, 9))
    story.now = 4.0
    story.hear(facts.DrainDone(handed_over))
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    (depart,) = story.did(act.Depart)
    assert (depart.code, depart.save_seconds) == (75, 0.0 if handed_over else 26.0)


def test_a_stopped_job_saves_at_one_boundary_of_all_nodes() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Ended("stopped", "no node stays"))
    asked = [act.Boundary(p, 1, "no node stays", save=True, stop=True) for p in (1, 2)]
    assert story.done == asked
    story.hear(facts.Left(1, 1, 9))
    assert story.done == []
    story.hear(facts.Left(2, 1, 9))
    assert story.did(act.TellLeft) == [], "nobody is there to hear it"
    assert story.did(act.Quit) == [act.Quit(1), act.Quit(2)]
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    assert [depart.code for depart in story.did(act.Depart)] == [75]


def test_a_stopped_job_whose_step_does_not_end_is_interrupted() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Ended("stopped", "an operator asked for it"))
    assert story.wait(LOOP.stop_seconds - 0.1) == []
    assert [
        interrupt.process for interrupt in story.wait(0.2) if isinstance(interrupt, act.Interrupt)
    ]
    story.hear(facts.Exited(1, KILLED), facts.Exited(2, KILLED))
    (depart,) = story.did(act.Depart)
    assert depart.save_seconds > 0, "the last mirror is better than nothing"


def test_the_last_nodes_step_has_half_of_the_grace_and_the_save_the_rest() -> None:
    story = Story(LOOP).running(1)
    story.hear(facts.DrainAsked("SIGTERM", 20.0))
    assert story.state.next_deadline() == 10.0
    story.wait(10.0)
    assert [interrupt.process for interrupt in story.did(act.Interrupt)] == [1, 2]
    story.hear(facts.Exited(1, KILLED), facts.Exited(2, KILLED))
    (depart,) = story.did(act.Depart)
    assert depart.save_seconds == 10.0


def test_a_second_notice_saves_nothing_more() -> None:
    story = Story(LOOP).running(1)
    story.hear(facts.DrainAsked("SIGTERM", 20.0))
    story.wait(10.0)
    story.hear(facts.Hurry())
    assert [kill.process for kill in story.did(act.Kill)] == [1, 2]
    story.hear(facts.Exited(1, KILLED), facts.Exited(2, KILLED))
    (depart,) = story.did(act.Depart)
    assert depart.save_seconds == 0.0


def test_a_last_save_that_failed_makes_the_job_one_that_failed() -> None:
    """1. all steps are done; 2. what was to be saved is not: the others hear that the job is over,
    and this node ends with 1."""
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Finished(1, 1, "completed"), facts.Finished(2, 1, "completed"))
    story.hear(facts.Unsaved(1, "version 6 is not saved: the disk is full"))
    told = "version 6 is not saved: the disk is full"
    assert story.did(act.TellFinished) == [act.TellFinished(1, "failed", told)]
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    assert story.did(act.Depart) == [act.Depart(1, "failed", told, whole=True)]


def test_news_of_a_save_comes_too_late_in_another_generation() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Finished(1, 1, "completed"), facts.Finished(2, 1, "completed"))
    story.hear(facts.Began(generation(2, "a")))
    story.hear(facts.Unsaved(1, "version 6 is not saved"))
    assert story.done == []


def test_a_draining_agent_begins_no_generation() -> None:
    """The notice and a failure elsewhere cross: the service did not know that this node leaves."""
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.DrainAsked("SIGTERM", 30.0))
    second = generation(2, "a", "b")
    assert not story.state.begins(second)
    assert story.state.begins(generation(2, "b")), "one that goes on without it"
    story.hear(facts.Began(second))
    assert [interrupt.process for interrupt in story.did(act.Interrupt)] == [1, 2]
    story.hear(facts.Left(1, 1, 9), facts.Left(2, 1, 9))
    assert story.done == [act.TellLeft(2, 9, "", going=True)], "and the others need not wait for it"
    story.hear(facts.Began(generation(3, "b")), facts.DrainDone())
    assert story.did(act.Enter) == []
    assert story.did(act.Quit) == [act.Quit(1), act.Quit(2)]


def test_a_death_while_the_last_node_drains_begins_nothing_new() -> None:
    story = Story(LOOP).running(1).with_standby()
    story.hear(facts.DrainAsked("SIGTERM", 30.0))
    story.hear(facts.Exited(1, KILLED))
    assert story.did(act.TellFailed) == []
    assert story.did(act.Promote) == []
    assert [interrupt.process for interrupt in story.did(act.Interrupt)] == [2]
    story.hear(facts.Left(2, 1, 9))
    assert story.did(act.Spawn) == []
    assert story.did(act.TellLeft) == []
    assert story.did(act.Quit) == [act.Quit(2)]
    story.hear(facts.Exited(2, Exit(0, None)), facts.Exited(3, KILLED))
    (depart,) = story.did(act.Depart)
    assert (depart.code, depart.status) == (75, "drained")
    assert depart.save_seconds > 0, "what is staged is better than nothing"


def test_a_death_while_one_of_many_drains_is_told() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.DrainAsked("SIGTERM", 30.0), facts.Exited(1, KILLED))
    assert [told.signal for told in story.did(act.TellFailed)] == [9]
    assert story.did(act.Spawn) == []


def test_notice_ends_what_is_still_starting_at_once() -> None:
    story = Story(LOOP)
    story.hear(facts.Hello(1), facts.DrainAsked("SIGTERM", 30.0))
    assert story.did(act.Quit) == [act.Quit(1)]
    assert [kill.process for kill in story.did(act.Kill)] == [2]


@pytest.mark.parametrize("nodes", [("a",), ("a", "b")])
def test_notice_after_the_last_step_undoes_nothing(nodes: tuple[str, ...]) -> None:
    story = Story(LOOP).running(1, *nodes)
    story.hear(facts.Finished(1, 1, "completed"), facts.DrainAsked("SIGTERM", 30.0))
    story.hear(facts.Finished(2, 1, "completed"))
    assert story.done == [act.TellFinished(1, "completed", "")]
    story.hear(facts.Ended("completed", "all done"))
    assert story.did(act.Quit) == [act.Quit(1), act.Quit(2)]
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    assert story.done == [act.Depart(0, "completed", "all done", whole=True)]


def test_notice_while_all_wait_for_the_others_to_finish_still_ends_with_its_grace() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Finished(1, 1, "completed"), facts.Finished(2, 1, "completed"))
    story.hear(facts.DrainAsked("SIGTERM", 30.0))
    assert story.did(act.Quit) == []
    assert story.killed_after(30.1) == [1, 2]


def test_notice_to_who_is_ending_changes_nothing() -> None:
    story = Story(LOOP).running()
    story.hear(facts.Finished(1, 1, "completed"), facts.Finished(2, 1, "completed"))
    story.hear(facts.Ended("completed", "all done"))
    assert story.hear(facts.DrainAsked("SIGTERM", 30.0)) == []
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    assert [depart.code for depart in story.did(act.Depart)] == [0]
