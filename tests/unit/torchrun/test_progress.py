"""Where an agent stands, event by event."""

from __future__ import annotations

from rendezvous.generation import Generation, Member
from rendezvous.session import (
    Disconnected,
    DrainDone,
    GenerationBegan,
    JobEnded,
    LeaveAtBoundary,
    Reconnected,
    Refused,
    Spare,
)
from rendezvous.torchrun.progress import Departure, Progress


def began(number: int, members: str) -> GenerationBegan:
    return GenerationBegan(
        Generation(
            number=number,
            members=tuple(
                Member(node=n, incarnation=1, slots=1, host=n, store_endpoint=f"{n}:1")
                for n in members
            ),
            reason=f"with {members}",
        )
    )


def trains(number: int = 1, members: str = "ab") -> Progress:
    progress = Progress("b")
    progress.hear(began(number, members))
    assert progress.enter() is not None
    assert progress.over() == ""
    return progress


def test_a_generation_is_entered_once() -> None:
    progress = Progress("b")
    assert progress.enter() is None
    progress.hear(Spare("waiting for nodes"))
    assert progress.enter() is None
    assert progress.depart() is None
    progress.hear(began(1, "ab"))
    generation = progress.enter()
    assert generation is not None
    assert (generation.number, progress.rank) == (1, 1)
    assert progress.enter() is None


def test_workers_that_fail_are_reported_once_and_the_next_generation_is_waited_for() -> None:
    progress = trains()
    assert progress.depart() == (1, Departure.FAILED)
    assert progress.depart() is None
    assert progress.enter() is None
    progress.hear(began(2, "ab"))
    entered = progress.enter()
    assert entered is not None
    assert entered.number == 2


def test_a_joiner_makes_the_others_leave_at_once() -> None:
    progress = trains()
    progress.hear(LeaveAtBoundary(1, "node c joined"))
    assert progress.over() == "node c joined"
    assert progress.depart() == (1, Departure.ASKED)
    progress.hear(began(2, "abc"))
    assert progress.enter() is not None
    assert progress.over() == ""


def test_a_boundary_of_another_generation_is_late() -> None:
    progress = trains(2)
    progress.hear(LeaveAtBoundary(1, "node c joined"))
    assert progress.over() == ""


def test_a_generation_that_is_to_end_before_it_was_entered_is_not_entered() -> None:
    progress = Progress("b")
    progress.hear(began(1, "ab"))
    progress.hear(LeaveAtBoundary(1, "node c joined"))
    assert progress.enter() is None
    assert progress.depart() == (1, Departure.ASKED)


def test_the_next_generation_is_entered_without_a_report() -> None:
    progress = trains()
    progress.hear(began(2, "b"))
    assert "generation 2 began" in progress.over()
    assert progress.depart() is None
    assert progress.enter() is not None
    assert progress.rank == 0


def test_who_is_not_in_the_next_generation_waits() -> None:
    progress = trains()
    progress.hear(began(2, "a"))
    progress.hear(Spare("the job has its 1 node"))
    assert progress.over() != ""
    assert progress.enter() is None
    assert progress.depart() is None
    progress.hear(began(3, "ab"))
    assert progress.enter() is not None


def test_too_few_are_left() -> None:
    progress = trains()
    progress.hear(Spare("node a was lost; 1 node left, at least 2 needed"))
    assert progress.over() != ""
    assert progress.enter() is None
    assert progress.depart() is None, "there is no generation to leave"


def test_a_lost_service_ends_nothing() -> None:
    progress = trains()
    progress.hear(Disconnected(0.0))
    assert not progress.connected
    assert progress.over() == ""
    progress.hear(Reconnected())
    assert progress.connected
    assert progress.over() == ""


def test_a_job_that_completes_lets_workers_finish_one_that_fails_does_not() -> None:
    progress = trains()
    progress.hear(JobEnded("completed", "2 nodes completed the job"))
    assert progress.closed
    assert progress.over() == ""
    progress = trains()
    progress.hear(JobEnded("failed", "node a gave the job up"))
    assert "gave the job up" in progress.over()


def test_a_refusal_closes_unless_it_is_for_now() -> None:
    progress = Progress("b")
    progress.hear(Refused("not known here", True))
    assert not progress.closed
    progress.hear(Refused("asks for another job", False))
    assert progress.closed == "asks for another job"


def test_a_drained_agent_learns_when_it_may_go() -> None:
    progress = trains()
    progress.hear(LeaveAtBoundary(1, "node b drains"))
    progress.hear(began(2, "a"))
    progress.hear(DrainDone())
    assert progress.drained
