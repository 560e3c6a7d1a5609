"""An agent whose workers are scripts: each generation starts them anew."""

from __future__ import annotations

import signal

import pytest

from tests.unit.agent.story import SCRIPT, Story, generation
from trainer.agent import actions as act
from trainer.agent import facts
from trainer.agent.process import Exit


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
    assert story.done == [act.TellFinished(1, "completed", "", whole=True)]
    assert story.hear(facts.Ended("completed", "x")) == [
        act.Depart(0, "completed", "x", whole=True)
    ]


def test_a_script_that_ignores_the_end_is_killed_without_a_dump() -> None:
    story = Story(SCRIPT)
    story.hear(facts.Began(generation(1)), facts.Exited(1, Exit(1, None)))
    story.hear(facts.Ended("failed", "x"))
    assert story.did(act.Depart) == []
    assert story.killed_after(30.1) == [2]
    assert story.did(act.Dump) == []
    assert story.said == "local rank 1: not ended, 30 s after being told to; killed"


def test_a_script_hears_of_a_drain_by_the_same_signal() -> None:
    story = Story(SCRIPT)
    story.hear(facts.Began(generation(1)), facts.DrainAsked("SIGUSR1", 60.0, signal.SIGUSR1))
    assert [i.signal for i in story.did(act.Interrupt)] == [signal.SIGUSR1] * 2
    story.hear(facts.Exited(1, Exit(0, None)), facts.Exited(2, Exit(None, signal.SIGUSR1)))
    assert [depart.code for depart in story.did(act.Depart)] == [75]


@pytest.mark.parametrize("how", [Exit(None, signal.SIGTERM), Exit(143, None), Exit(0, None)])
def test_a_script_that_heard_the_notice_before_us_has_not_failed(how: Exit) -> None:
    """Slurm signals every process: the script ends of it while the others are still asked."""
    story = Story(SCRIPT)
    story.hear(facts.Began(generation(1, "a", "b")))
    story.hear(facts.DrainAsked("SIGTERM", 30.0, signal.SIGTERM), facts.Exited(1, how))
    assert story.did(act.TellFailed) == []
    story.hear(facts.BoundaryAsked(1, "node a drains", ("a",)))
    story.hear(facts.Exited(2, Exit(None, signal.SIGTERM)))
    assert [told.generation for told in story.did(act.TellLeft)] == [1]
    story.hear(facts.Began(generation(2, "b")), facts.DrainDone())
    assert [depart.code for depart in story.did(act.Depart)] == [75]


def test_a_script_that_could_not_be_started_fails_with_the_reason() -> None:
    story = Story(SCRIPT)
    said = "it can't be started: Too many open files; raise the limit of open files (ulimit -n)"
    story.hear(facts.Began(generation(1)), facts.Exited(1, Exit(1, None), said))
    assert [told.cause for told in story.did(act.TellFailed)] == [said]
    # The next one's failure is its own.
    story.hear(facts.Exited(2, Exit(None, 15)), facts.Began(generation(2)))
    third = story.did(act.Enter)[0].process
    story.hear(facts.Exited(third, Exit(3, None)))
    assert [told.cause for told in story.did(act.TellFailed)] == [""]
