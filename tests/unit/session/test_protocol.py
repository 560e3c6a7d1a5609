"""What a session decides, without sockets: whom to dial, what to say, what a message means."""

from __future__ import annotations

import random

import pytest

from rendezvous.codec import generation_to_wire
from rendezvous.errors import MessageError
from rendezvous.generation import Generation, Member
from rendezvous.membership import JobSpec
from rendezvous.session import events
from rendezvous.session.events import SessionEvent
from rendezvous.session.identity import NodeIdentity
from rendezvous.session.protocol import SessionProtocol
from rendezvous.timeouts import Timeouts
from rendezvous.wire import rendezvous_pb2 as wire

TIMEOUTS = Timeouts()


def _protocol(*endpoints: str, heard: int = 0) -> SessionProtocol:
    return SessionProtocol(
        endpoints or ("h1:1", "h2:1", "h3:1"),
        run_id="job",
        node=NodeIdentity(node="a", slots=1, host="h", store_endpoint="h:1", incarnation=5),
        spec=JobSpec(max_nodes=4),
        timeouts=TIMEOUTS,
        resume_key=b"k" * 16,
        rng=random.Random(7),
        now=0.0,
        heard=heard,
    )


def _began(number: int, *nodes: str) -> wire.ServiceMessage:
    members = tuple(
        Member(node=node, incarnation=1, slots=1, host="h", store_endpoint="s:1") for node in nodes
    )
    generation = Generation(number=number, members=members, reason="because")
    return wire.ServiceMessage(generation_began=generation_to_wire(generation))


def _welcome(protocol: SessionProtocol, now: float = 0.0) -> list[SessionEvent]:
    welcome = wire.Welcome(service="h1:1", pulse_ms=1000)
    return protocol.receive(wire.ServiceMessage(welcome=welcome), now)


def _running(generation: int) -> wire.AgentMessage:
    return wire.AgentMessage(running=wire.Running(generation=generation))


def _kinds(messages: list[wire.AgentMessage]) -> list[str | None]:
    return [message.WhichOneof("body") for message in messages]


def test_every_endpoint_is_tried_before_it_waits() -> None:
    protocol = _protocol()
    dialled = []
    for _ in range(3):
        dial = protocol.dial(0.0)
        assert dial.delay == 0.0
        dialled.append(dial.endpoint)
        protocol.lost(0.0)
    assert sorted(dialled) == ["h1:1", "h2:1", "h3:1"]
    assert protocol.dial(0.0).endpoint == dialled[0]


def test_waits_grow_to_a_bound_and_are_spread() -> None:
    protocol = _protocol("h1:1")
    waits = []
    now = 0.0
    for _ in range(40):
        protocol.lost(now)
        waits.append(protocol.dial(now).delay)
        now += waits[-1]
    assert waits[0] <= TIMEOUTS.retry_first
    assert max(waits) <= TIMEOUTS.retry_most
    assert waits[-1] >= TIMEOUTS.retry_most / 2
    assert len(set(waits[-10:])) > 5


def test_a_named_leader_is_dialled_next_even_if_it_is_not_on_the_list() -> None:
    protocol = _protocol()
    protocol.dial(0.0)
    redirect = wire.Redirect(leader="h9:1", reason="it leads")
    protocol.receive(wire.ServiceMessage(redirect=redirect), 0.0)
    protocol.lost(0.0)
    assert protocol.dial(0.0).endpoint == "h9:1"
    protocol.lost(0.0)
    assert protocol.dial(0.0).endpoint != "h9:1"


def test_where_nobody_leads_it_comes_again_a_little_later() -> None:
    protocol = _protocol()
    protocol.dial(0.0)
    redirect = wire.Redirect(retry_ms=200)
    protocol.receive(wire.ServiceMessage(redirect=redirect), 0.0)
    protocol.lost(0.0)
    assert 0.1 <= protocol.dial(0.0).delay <= 0.2


def test_it_tells_once_that_it_is_cut_off_and_once_that_it_is_back() -> None:
    protocol = _protocol()
    assert _welcome(protocol, 1.0) == []
    assert protocol.lost(5.0) == [events.Disconnected(1.0)]
    assert protocol.lost(6.0) == []
    assert _welcome(protocol, 7.0) == [events.Reconnected()]


def test_a_service_that_was_never_there_is_not_one_that_was_lost() -> None:
    protocol = _protocol()
    protocol.dial(0.0)
    (event,) = protocol.lost(5.0)
    assert isinstance(event, events.Disconnected)
    assert not event.met


def test_reports_are_said_again_with_their_numbers_until_the_next_generation() -> None:
    protocol = _protocol()
    _welcome(protocol)
    protocol.receive(_began(1, "a", "b"), 0.1)
    first = protocol.report(_running(1))
    assert first.sequence == 1
    protocol.receive(wire.ServiceMessage(ack=wire.Ack(sequence=1)), 0.2)
    assert protocol.settled
    protocol.lost(0.3)
    # Even what was acknowledged: the next leader may not have it.
    opening = protocol.opening(0.4)
    assert _kinds(opening) == ["join", "running"]
    assert opening[1].sequence == 1
    assert opening[0].join.generation == 1
    protocol.receive(_began(2, "a", "b"), 0.5)
    assert _kinds(protocol.opening(0.6)) == ["join"]


def test_what_is_about_no_generation_stands_through_all_of_them() -> None:
    protocol = _protocol()
    _welcome(protocol)
    protocol.report(wire.AgentMessage(drain=wire.DrainNotice(grace=3)))
    protocol.receive(_began(1, "a"), 0.1)
    assert _kinds(protocol.opening(0.2)) == ["join", "drain"]
    assert not protocol.settled


def test_the_status_is_said_again() -> None:
    protocol = _protocol()
    protocol.status({"step": "1"})
    protocol.status({"step": "2"})
    assert protocol.opening(0.0)[-1].report.status == {"step": "2"}


def test_a_used_store_endpoint_is_not_offered_again() -> None:
    protocol = _protocol()
    assert protocol.opening(0.0)[0].join.store_endpoint == "h:1"
    _welcome(protocol)
    protocol.receive(_began(1, "a", "b"), 0.1)
    assert protocol.opening(0.2)[0].join.store_endpoint == ""
    protocol.report(
        wire.AgentMessage(listening=wire.Listening(generation=1, store_endpoint="h:2")), "h:2"
    )
    assert protocol.opening(0.3)[0].join.store_endpoint == "h:2"
    protocol.receive(_began(2, "b"), 0.4)
    assert protocol.opening(0.5)[0].join.store_endpoint == "h:2"


def test_an_old_generation_is_no_news() -> None:
    protocol = _protocol()
    _welcome(protocol)
    assert protocol.receive(_began(3, "a"), 0.1)
    assert protocol.receive(_began(3, "a"), 0.2) == []
    assert protocol.receive(_began(2, "a"), 0.3) == []
    assert protocol.generation == 3


def test_what_an_earlier_start_heard_is_not_taken_for_its_own() -> None:
    protocol = _protocol(heard=4)
    (join,) = protocol.opening(0.0)
    assert (join.join.generation, join.join.earlier) == (0, 4)
    _welcome(protocol)
    assert protocol.receive(_began(4, "a"), 0.0) == []
    protocol.receive(_began(5, "a"), 0.0)
    (join,) = protocol.opening(1.0)
    assert (join.join.generation, join.join.earlier) == (5, 4)


def test_a_boundary_is_asked_once_and_of_the_present_generation_only() -> None:
    protocol = _protocol()
    _welcome(protocol)
    protocol.receive(_began(2, "a"), 0.1)

    def ask(generation: int, *going: str) -> list[SessionEvent]:
        body = wire.LeaveAtBoundary(generation=generation, reason="growth", going=going)
        return protocol.receive(wire.ServiceMessage(leave_at_boundary=body), 0.2)

    assert ask(1) == []
    assert ask(2) == [events.LeaveAtBoundary(2, "growth")]
    assert ask(2) == []
    assert ask(2, "b", "c") == [events.LeaveAtBoundary(2, "growth", ("b", "c"))]
    assert ask(2, "c", "b") == [], "the same nodes go"


def test_a_refusal_that_may_pass_is_told_once_and_asked_again() -> None:
    protocol = _protocol()
    refused = wire.Refused(reason="full", retryable=True)
    for expected in ([events.Refused("full", True)], []):
        assert protocol.receive(wire.ServiceMessage(refused=refused), 1.0) == expected
        protocol.lost(1.0)
    assert not protocol.over
    assert protocol.dial(1.0).delay > 0


def test_a_final_refusal_and_the_jobs_end_are_the_end() -> None:
    for message in (
        wire.ServiceMessage(refused=wire.Refused(reason="no")),
        wire.ServiceMessage(job_ended=wire.JobEnded(status="completed")),
        wire.ServiceMessage(problem=wire.Problem(detail="what?")),
    ):
        protocol = _protocol()
        assert protocol.receive(message, 0.0)
        assert protocol.over
        assert protocol.lost(0.1) == []


def test_who_was_taken_in_before_waits_for_its_new_token() -> None:
    """The service's may have been replaced before its own; a stranger's is wrong for good."""
    refused = wire.Refused(reason="the token", code=wire.CODE_UNAUTHENTICATED)
    protocol = _protocol()
    _welcome(protocol)
    protocol.lost(0.1)
    told = protocol.receive(wire.ServiceMessage(refused=refused), 0.2)
    assert told == [events.Refused("the token", True)]
    assert not protocol.over
    stranger = _protocol()
    stranger.receive(wire.ServiceMessage(refused=refused), 0.2)
    assert stranger.over


def test_a_problem_while_attending_is_not_the_end() -> None:
    protocol = _protocol()
    _welcome(protocol)
    problem = wire.ServiceMessage(problem=wire.Problem(detail="what?"))
    assert protocol.receive(problem, 0.1) == []
    assert not protocol.over


def test_silence_is_measured_by_what_the_service_promised() -> None:
    protocol = _protocol()
    protocol.opening(0.0)
    patience = TIMEOUTS.answer_to_join(4)
    assert not protocol.silent(patience)
    assert protocol.silent(patience + 0.1)
    _welcome(protocol, 10.0)
    assert not protocol.silent(10.0 + TIMEOUTS.silence)
    assert protocol.silent(10.1 + TIMEOUTS.silence)
    protocol.receive(wire.ServiceMessage(pulse=wire.Pulse(next_ms=20_000)), 20.0)
    assert not protocol.silent(60.0)


def test_drains_are_told() -> None:
    protocol = _protocol()
    _welcome(protocol)
    asked = wire.ServiceMessage(drain_asked=wire.DrainAsked(grace=9, reason="why"))
    assert protocol.receive(asked, 0.1) == [events.DrainAsked("why", 9)]
    for handed_over in (True, False):
        done = wire.DrainDone(reason="went", handed_over=handed_over)
        heard = protocol.receive(wire.ServiceMessage(drain_done=done), 0.1)
        assert heard == [events.DrainDone("went", handed_over)]


@pytest.mark.parametrize("roster", [b"", b"nonsense", b"\x78\x01"])
def test_an_unreadable_roster_is_an_error_and_changes_nothing(roster: bytes) -> None:
    protocol = _protocol()
    _welcome(protocol)
    began = wire.GenerationBegan(number=4, roster=roster)
    with pytest.raises(MessageError):
        protocol.receive(wire.ServiceMessage(generation_began=began), 0.1)
    assert protocol.generation == 0


def test_what_it_does_not_know_is_passed_over() -> None:
    assert _protocol().receive(wire.ServiceMessage(), 0.0) == []


def test_an_endpoint_that_was_silent_is_left_out_even_if_others_name_it() -> None:
    protocol = _protocol("h1:1", "h2:1")
    silent = protocol.dial(0.0).endpoint
    protocol.opening(0.0)
    protocol.lost(100.0)
    other = protocol.dial(100.0).endpoint
    assert other != silent
    redirect = wire.ServiceMessage(redirect=wire.Redirect(leader=silent))
    protocol.opening(100.0)
    protocol.receive(redirect, 100.1)
    protocol.lost(100.1)
    dial = protocol.dial(100.1)
    assert dial.endpoint == other
    assert dial.delay > 0
    protocol.opening(100.3)
    protocol.receive(redirect, 100.2 + TIMEOUTS.lease)
    protocol.lost(100.2 + TIMEOUTS.lease)
    assert protocol.dial(100.2 + TIMEOUTS.lease).endpoint == silent


def test_an_answer_that_does_not_come_is_waited_for_ever_longer() -> None:
    protocol = _protocol("h1:1")
    patience = TIMEOUTS.answer_to_join(4)
    now = 0.0
    for times in (1, 2, 4, 4):
        protocol.dial(now)
        protocol.opening(now)
        assert not protocol.silent(now + 0.9 * times * patience)
        now += 1.1 * times * patience
        assert protocol.silent(now)
        protocol.lost(now)
