"""The agent's decisions, told as stories: what is heard, what is done. No process, no clock."""

from __future__ import annotations

import signal

import pytest

from rendezvous.generation import Generation, Member
from trainer.agent import actions as act
from trainer.agent import facts
from trainer.agent.actions import Action
from trainer.agent.facts import Fact
from trainer.agent.process import Exit
from trainer.agent.slot import Policy
from trainer.agent.state import EXIT_FAILED, EXIT_USAGE, AgentState

KILLED = Exit(None, 9)
LOOP = Policy(persistent=True, standby=1, interrupt_seconds=5.0, quit_seconds=10.0)
SCRIPT = Policy(persistent=False, interrupt_seconds=30.0, quit_seconds=30.0)


def generation(number: int, *nodes: str, slots: int = 2, reason: str = "why") -> Generation:
    members = tuple(
        Member(node=node, incarnation=1, slots=slots, host=node, store_endpoint=f"{node}:{number}")
        for node in nodes or ("a",)
    )
    return Generation(number=number, members=members, reason=reason)


class Story:
    """Feeds facts to one agent on node `a` with two slots, and looks at what it does."""

    def __init__(self, policy: Policy) -> None:
        self.state = AgentState("a", 2, policy)
        self.now = 0.0
        self.done = self.state.begin(self.now)

    def hear(self, *heard: Fact) -> list[Action]:
        self.done = [action for fact in heard for action in self.state.step(fact, self.now)]
        return self.done

    def wait(self, seconds: float) -> list[Action]:
        self.now += seconds
        return self.hear(facts.Tick())

    def did(self, kind: type) -> list:
        return [action for action in self.done if isinstance(action, kind)]

    def running(self, number: int = 1, *nodes: str) -> Story:
        """Loop workers 1 and 2 are in the generation."""
        if not self.state.ready:
            self.hear(facts.Hello(1), facts.Hello(2))
        self.hear(facts.Began(generation(number, *nodes)))
        entered = [facts.Entered(slot.process, number) for slot in self.state.slots]
        self.hear(*entered)
        assert self.did(act.TellRunning) == [act.TellRunning(number)]
        return self

    def with_standby(self, number: int = 1) -> Story:
        """A few steps are done and standby 3 is ready."""
        steps = [
            facts.Stepped(slot.process, number, step)
            for step in (1, 2, 3)
            for slot in self.state.slots
        ]
        self.hear(*steps)
        assert self.did(act.Spawn) == [act.Spawn(3, standby=True)]
        self.hear(facts.Hello(3))
        return self


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
    assert [kill.process for kill in story.wait(0.6)] == [2]
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
    assert [kill.process for kill in story.wait(10.1)] == [1, 2]


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
    assert [kill.process for kill in story.wait(1.1)] == [1, 2]
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


def test_a_script_is_started_anew_in_every_generation() -> None:
    story = Story(SCRIPT)
    assert story.done == []
    assert story.state.ready
    story.hear(facts.Began(generation(1)))
    assert [enter.process for enter in story.did(act.Enter)] == [1, 2]
    assert story.did(act.TellRunning) == [act.TellRunning(1)]
    story.hear(facts.Exited(1, Exit(7, None)))
    assert story.did(act.TellFailed) == [act.TellFailed(1, 0, 7, None, -1, "")]
    assert [(i.process, i.signal) for i in story.did(act.Interrupt)] == [(2, signal.SIGTERM)]
    story.hear(facts.Began(generation(2)))
    assert [enter.process for enter in story.did(act.Enter)] == [3]
    story.hear(facts.Exited(2, Exit(None, 15)))
    assert [enter.process for enter in story.did(act.Enter)] == [4]
    assert story.did(act.TellFailed) == []
    assert story.did(act.TellRunning) == [act.TellRunning(2)]


def test_a_script_that_ends_well_on_every_rank_is_done() -> None:
    story = Story(SCRIPT)
    story.hear(facts.Began(generation(1)), facts.Exited(1, Exit(0, None)))
    assert story.did(act.TellFinished) == []
    story.hear(facts.Exited(2, Exit(0, None)))
    assert story.done == [act.TellFinished(1, "completed", "")]
    assert story.hear(facts.Ended("completed", "x")) == [
        act.Depart(0, "completed", "x", whole=True)
    ]


def test_a_script_that_ignores_the_end_is_killed_without_a_dump() -> None:
    story = Story(SCRIPT)
    story.hear(facts.Began(generation(1)), facts.Exited(1, Exit(1, None)))
    story.hear(facts.Ended("failed", "x"))
    assert story.did(act.Depart) == []
    assert [type(action) for action in story.wait(30.1)] == [act.Kill]


def test_a_script_hears_of_a_drain_by_the_same_signal() -> None:
    story = Story(SCRIPT)
    story.hear(facts.Began(generation(1)), facts.DrainAsked("SIGUSR1", 60.0, signal.SIGUSR1))
    assert [i.signal for i in story.did(act.Interrupt)] == [signal.SIGUSR1] * 2
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(None, signal.SIGUSR1)))
    assert [depart.code for depart in story.did(act.Depart)] == [75]


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
    assert [i.process for i in story.did(act.Interrupt)] == [1, 2]
    story.hear(facts.Began(generation(2)), facts.Left(1, 1, 3))
    assert story.wait(5.1) == [act.Dump(2, "worker.stuck")]
    assert [kill.process for kill in story.wait(0.6)] == [2]


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


def test_who_waited_in_vain_saves_what_is_staged_and_leaves_with_75() -> None:
    story = Story(LOOP).running(1, "a", "b")
    story.hear(facts.Reserved(1, "why"), facts.Left(1, 1, 9), facts.Left(2, 1, 9))
    story.hear(facts.Ended("stopped", "1 node after 60 s, at least 2 needed"))
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(0, None)))
    (depart,) = story.did(act.Depart)
    assert (depart.code, depart.status, depart.whole) == (75, "stopped", True)
    assert depart.save_seconds > 0


def test_a_spare_is_told_so_and_loses_nothing_by_it() -> None:
    story = Story(LOOP).running(2, "a", "b")
    story.hear(facts.Reserved(1, "of an earlier one"))
    assert story.done == []
    assert not story.state.waiting


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
    assert story.done == [act.Boundary(p, 1, "no node stays", save=True) for p in (1, 2)]
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
