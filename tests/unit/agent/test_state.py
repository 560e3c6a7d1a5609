"""How an agent fills its slots and follows the generations, told as stories."""

from __future__ import annotations

from tests.unit.agent.story import KILLED, LOOP, Story, generation
from trainer.agent import actions as act
from trainer.agent import facts
from trainer.agent.process import Exit


def test_workers_import_before_anything_is_agreed_and_enter_together() -> None:
    story = Story(LOOP)
    assert story.done == [act.Spawn(1, standby=False), act.Spawn(2, standby=False)]
    story.hear(facts.Hello(1))
    assert not story.state.ready
    story.hear(facts.Hello(2))
    assert story.state.ready
    first = generation(1)
    assert story.hear(facts.Began(first)) == [act.Enter(1, 0, first), act.Enter(2, 1, first)]
    assert story.hear(facts.Entered(1, 1)) == []
    assert story.hear(facts.Entered(2, 1)) == [act.TellRunning(1)]


def test_a_dead_worker_is_told_of_and_a_standby_has_its_place_at_once() -> None:
    story = Story(LOOP).running().with_standby()
    story.hear(facts.Exited(2, KILLED))
    assert story.did(act.TellFailed) == [act.TellFailed(1, 1, None, 9, 3, "")]
    assert [i.process for i in story.did(act.Interrupt)] == [1]
    assert story.did(act.Promote) == [act.Promote(3)]
    second = generation(2)
    story.hear(facts.Began(second))
    assert story.did(act.Enter) == [act.Enter(3, 1, second)]
    story.hear(facts.Left(1, 1, version=3))
    assert story.did(act.Enter) == [act.Enter(1, 0, second)]
    assert story.did(act.TellLeft) == []
    story.hear(facts.Entered(1, 2), facts.Entered(3, 2))
    assert story.did(act.TellRunning) == [act.TellRunning(2)]


def test_a_standby_that_is_needed_before_it_is_ready_is_hurried() -> None:
    story = Story(LOOP).running()
    story.hear(*(facts.Stepped(process, 1, step) for step in (1, 2, 3) for process in (1, 2)))
    assert story.did(act.Spawn) == [act.Spawn(3, standby=True)]
    story.hear(facts.Exited(2, KILLED))
    assert story.did(act.Promote) == [act.Promote(3)]
    second = generation(2)
    story.hear(facts.Began(second))
    assert story.did(act.Enter) == []
    story.hear(facts.Hello(3))
    assert story.did(act.Enter) == [act.Enter(3, 1, second)]


def test_the_next_standby_waits_for_the_steps_to_be_back() -> None:
    story = Story(LOOP).running().with_standby()
    story.hear(facts.Exited(2, KILLED), facts.Began(generation(2)), facts.Left(1, 1, 3))
    story.hear(facts.Entered(1, 2), facts.Entered(3, 2))
    assert story.did(act.Spawn) == []
    story.hear(*(facts.Stepped(p, 2, step) for step in (4, 5) for p in (1, 3)))
    assert story.did(act.Spawn) == []
    story.hear(facts.Stepped(1, 2, 6), facts.Stepped(3, 2, 6))
    assert story.did(act.Spawn) == [act.Spawn(4, standby=True)]


def test_the_next_standby_waits_for_what_is_done_again_but_not_for_too_much_of_it() -> None:
    for back_to, due in ((95, 103), (10, 33)):
        story = Story(LOOP).running().with_standby()
        story.hear(facts.Stepped(1, 1, 100), facts.Stepped(2, 1, 100))
        story.hear(facts.Exited(2, KILLED), facts.Began(generation(2)), facts.Left(1, 1, 100))
        story.hear(facts.Entered(1, 2, back_to), facts.Entered(3, 2, back_to))
        story.hear(facts.Stepped(1, 2, due - 1), facts.Stepped(3, 2, due - 1))
        assert story.did(act.Spawn) == []
        story.hear(facts.Stepped(1, 2, due), facts.Stepped(3, 2, due))
        assert story.did(act.Spawn) == [act.Spawn(4, standby=True)]


def test_without_a_standby_a_new_process_takes_the_place_when_it_is_ready() -> None:
    story = Story(LOOP).running()
    story.hear(facts.Exited(1, Exit(1, None)), facts.Began(generation(2)))
    assert story.did(act.Spawn) == [act.Spawn(3, standby=False)]
    assert story.did(act.Enter) == []
    story.hear(facts.Hello(3))
    assert [enter.local_rank for enter in story.did(act.Enter)] == [0]


def test_two_deaths_in_one_generation_are_told_once() -> None:
    story = Story(LOOP).running()
    story.hear(facts.Exited(1, KILLED), facts.Exited(2, KILLED))
    assert len(story.did(act.TellFailed)) == 1


def test_a_death_in_a_generation_that_is_over_is_told_to_nobody() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Began(generation(2, "a", "b")))
    story.hear(facts.Exited(2, KILLED))
    assert story.did(act.TellFailed) == []
    assert story.did(act.Spawn) == [act.Spawn(3, standby=False)]


def test_a_worker_that_does_not_come_back_is_dumped_killed_and_replaced() -> None:
    story = Story(LOOP).running().with_standby()
    story.hear(facts.Began(generation(2, "a", "b")))
    assert [i.process for i in story.did(act.Interrupt)] == [1, 2]
    story.hear(facts.Left(1, 1, 3))
    assert story.wait(4.9) == []
    assert story.wait(0.2) == [act.Dump(2, "worker.stuck")]
    assert story.killed_after(0.6) == [2]
    left = "not left generation 1, 5 s after being told to (elastic.interrupt_timeout); killed"
    assert story.said == f"local rank 1: {left}"
    assert story.wait(60) == []
    story.hear(facts.Exited(2, KILLED))
    assert [(e.process, e.local_rank) for e in story.did(act.Enter)] == [(3, 1)]
    assert story.did(act.TellFailed) == []


def test_growth_leaves_at_the_boundary_and_reports_it_once() -> None:
    story = Story(LOOP).running()
    story.hear(facts.BoundaryAsked(1, "node b joins"))
    asked = [act.Boundary(p, 1, "node b joins", save=False) for p in (1, 2)]
    assert story.done == asked
    assert story.hear(facts.BoundaryAsked(1, "node b joins")) == []
    assert story.hear(facts.Left(1, 1, 7)) == []
    assert story.hear(facts.Left(2, 1, 7)) == [act.TellLeft(1, 7, "")]
    story.hear(facts.Began(generation(2, "a", "b")))
    assert [enter.process for enter in story.did(act.Enter)] == [1, 2]


def test_a_worker_that_leaves_by_itself_takes_the_others_out_and_says_why() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Left(1, 1, 4, error="connection reset"))
    assert [i.process for i in story.did(act.Interrupt)] == [2]
    story.hear(facts.Left(2, 1, 4))
    assert story.did(act.TellLeft) == [act.TellLeft(1, 4, "rank 0: connection reset")]


def test_a_death_that_is_heard_of_after_what_it_did_to_the_others_is_the_failure() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Left(2, 1, 4, error="connection reset"))
    story.hear(facts.Exited(1, KILLED))
    assert story.did(act.TellLeft) == []
    assert [(told.rank, told.signal) for told in story.did(act.TellFailed)] == [(0, 9)]


def test_a_worker_that_was_interrupted_has_not_left_by_itself() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Exited(1, KILLED))
    story.hear(facts.Left(2, 1, 4, error="rank 0 was killed"))
    assert story.did(act.TellLeft) == []


def test_words_about_an_older_generation_change_nothing() -> None:
    story = Story(LOOP).running()
    story.hear(facts.Exited(2, KILLED), facts.Began(generation(2)), facts.Left(1, 1, 3))
    assert story.hear(facts.Entered(1, 1), facts.Left(1, 1, 3), facts.Finished(1, 1, "x")) == []
    assert story.hear(facts.Began(generation(1))) == []
    assert story.hear(facts.BoundaryAsked(1, "late")) == []


def test_a_generation_that_is_overtaken_while_entering_is_left_again() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Began(generation(2, "a")), facts.Left(1, 1, 3))
    assert [e.generation.number for e in story.did(act.Enter)] == [2]
    story.hear(facts.Began(generation(3, "a", "c")))
    assert [(i.process, i.generation) for i in story.did(act.Interrupt)] == [(1, 2)]
    story.hear(facts.Left(1, 2, 3), facts.Left(2, 1, 3))
    assert [e.generation.number for e in story.did(act.Enter)] == [3, 3]


def test_ranks_without_a_place_in_the_mesh_don_t_hold_up_the_others() -> None:
    story = Story(LOOP)
    story.hear(facts.Hello(1), facts.Hello(2), facts.Began(generation(1)))
    story.hear(facts.Entered(1, 1), facts.Spared(2, 1))
    assert story.did(act.TellRunning) == [act.TellRunning(1)]
    story.hear(facts.BoundaryAsked(1, "growth"), facts.Left(1, 1, 5))
    assert story.did(act.TellLeft) == [act.TellLeft(1, 5, "")]
    story.hear(facts.Began(generation(2, "a", "b")))
    assert [enter.process for enter in story.did(act.Enter)] == [1, 2]
    story.hear(facts.Spared(2, 2), facts.Finished(1, 2, "completed"))
    assert story.did(act.TellFinished) == [act.TellFinished(2, "completed", "")]


def test_a_part_that_is_over_is_not_the_whole() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.TurnedAway("set aside"))
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    assert [(depart.code, depart.whole) for depart in story.did(act.Depart)] == [(1, False)]


def test_a_generation_that_none_follows_is_left_and_waited_after() -> None:
    story = Story(LOOP).running(1, "a", "b")
    assert not story.state.waiting
    story.hear(facts.Reserved(1, "node b was lost; 1 node left, at least 2 needed"))
    assert [interrupt.process for interrupt in story.did(act.Interrupt)] == [1, 2]
    story.hear(facts.Left(1, 1, 9), facts.Left(2, 1, 9))
    assert story.state.waiting
    story.running(2, "a", "c")
    assert not story.state.waiting


def test_a_spare_is_told_so_and_loses_nothing_by_it() -> None:
    story = Story(LOOP).running(2, "a", "b")
    story.hear(facts.Reserved(1, "of an earlier one"))
    assert story.done == []
    assert not story.state.waiting


def test_a_node_that_the_next_generation_is_without_hands_its_state_over_first() -> None:
    for going in (True, False):
        story = Story(LOOP).running(1, "a", "b", "c")
        story.hear(facts.BoundaryAsked(1, "the job shrinks", ("a",) if going else ("b",)))
        story.hear(facts.Left(1, 1, 9), facts.Left(2, 1, 9))
        assert story.done == [act.TellLeft(1, 9, "", going)]


def test_a_worker_that_fails_in_its_first_step_fails_at_the_step_it_went_on_from() -> None:
    """Else a step that always fails would never be recognized: each generation ends in it."""
    story = Story(LOOP).running()
    story.hear(facts.Exited(2, Exit(1, None)), facts.Began(generation(2)), facts.Left(1, 1, 7))
    story.hear(facts.Hello(3), facts.Entered(1, 2, 7), facts.Entered(3, 2, 7))
    story.hear(facts.Exited(3, Exit(1, None)))
    assert story.did(act.TellFailed) == [act.TellFailed(2, 1, 1, None, 7, "")]
