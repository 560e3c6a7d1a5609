"""What a leader decides about one job, without sockets: messages in, actions out."""

from __future__ import annotations

import pytest

from rendezvous.codec import generation_from_wire, spec_to_wire
from rendezvous.errors import MessageError
from rendezvous.generation import Generation
from rendezvous.membership import JobSpec
from rendezvous.service.actions import Action, Close, Send, Write
from rendezvous.service.job import Job
from rendezvous.wire import rendezvous_pb2 as wire

SPEC = JobSpec(min_nodes=2, max_nodes=2, last_call=0.0)
KEY = b"k" * 16


def _job() -> Job:
    job = Job("job", service="here:1", pulse=1.0, most_nodes=10)
    job.restore(None, 0.0)
    return job


def _join(node: str, *, incarnation: int = 1, key: bytes = KEY, generation: int = 0) -> wire.Join:
    return wire.Join(
        protocol=1,
        run_id="job",
        node=node,
        incarnation=incarnation,
        slots=1,
        host="h",
        store_endpoint=f"{node}:1",
        spec=spec_to_wire(SPEC),
        resume_key=key,
        generation=generation,
    )


def _told(actions: list[Action], stream: int) -> list[wire.ServiceMessage]:
    return [
        wire.ServiceMessage.FromString(action.message)
        for action in actions
        if isinstance(action, Send) and stream in action.streams
    ]


def _kinds(actions: list[Action], stream: int) -> list[str | None]:
    return [message.WhichOneof("body") for message in _told(actions, stream)]


def _formed() -> tuple[Job, list[Action]]:
    job = _job()
    job.join(1, _join("a"), 0.0)
    return job, job.join(2, _join("b"), 0.1)


def _generation(actions: list[Action], stream: int) -> Generation:
    (began,) = [m for m in _told(actions, stream) if m.HasField("generation_began")]
    return generation_from_wire(began.generation_began)


def test_a_welcome_comes_first_and_the_write_before_the_generation() -> None:
    _, actions = _formed()
    assert _kinds(actions, 2)[0] == "welcome"
    write = next(i for i, action in enumerate(actions) if isinstance(action, Write))
    began = [
        i
        for i, action in enumerate(actions)
        if isinstance(action, Send)
        and wire.ServiceMessage.FromString(action.message).HasField("generation_began")
    ]
    assert began
    assert write < min(began)


def test_a_generation_is_one_write_and_one_encoding_for_all() -> None:
    _, actions = _formed()
    assert sum(isinstance(action, Write) for action in actions) == 1
    (told,) = [a for a in actions if isinstance(a, Send) and set(a.streams) == {1, 2}]
    assert isinstance(told.message, bytes)


def test_only_the_first_members_store_is_told() -> None:
    _, actions = _formed()
    generation = _generation(actions, 1)
    assert generation.store_endpoint == "a:1"
    assert generation.members[1].store_endpoint == ""


def test_a_report_is_acknowledged_after_the_write_it_causes() -> None:
    job, _ = _formed()
    failed = wire.WorkerFailed(generation=1, rank=0, signal=9, step=3, store_endpoint="a:2")
    actions = job.receive(1, wire.AgentMessage(sequence=7, worker_failed=failed), 1.0)
    write = next(i for i, action in enumerate(actions) if isinstance(action, Write))
    acks = [i for i, action in enumerate(actions) if _kinds([action], 1) == ["ack"]]
    assert acks == [len(actions) - 1]
    assert write < acks[0]
    assert _told(actions, 1)[-1].ack.sequence == 7


def test_a_lost_stream_is_a_lost_node_only_after_the_grace() -> None:
    job, _ = _formed()
    job.receive(1, wire.AgentMessage(sequence=1, running=wire.Running(generation=1)), 0.2)
    assert not any(isinstance(a, Write) for a in job.stream_lost(2, 1.0))
    deadline = job.next_deadline()
    assert deadline == pytest.approx(1.0 + SPEC.reconnect_grace)
    assert any(isinstance(action, Write) for action in job.tick(deadline))


def test_the_same_life_resumes_on_a_new_stream_and_the_old_one_closes() -> None:
    job, _ = _formed()
    actions = job.join(3, _join("b", generation=1), 0.5)
    assert _kinds(actions, 3) == ["welcome"]
    assert Close(2) in actions
    assert job.stream_lost(2, 0.6) == []
    assert job.knows("b")


def test_who_missed_the_generation_is_told_on_coming_back() -> None:
    job, actions = _formed()
    before = _generation(actions, 2)
    assert _generation(job.join(3, _join("b", generation=0), 0.5), 3) == before


def test_another_key_is_not_the_same_life() -> None:
    job, _ = _formed()
    actions = job.join(3, _join("b", key=b"x" * 16), 1.0)
    (refused,) = _told(actions, 3)
    assert refused.refused.code == wire.CODE_MISMATCH
    assert Close(3) in actions
    assert job.receive(2, wire.AgentMessage(sequence=1, leave=wire.Leave()), 1.1)


def test_another_life_waits_while_the_present_one_is_heard() -> None:
    job, _ = _formed()
    job.beat(2, 1.0)
    (refused,) = _told(job.join(3, _join("b", incarnation=2, key=b"x" * 16), 1.1), 3)
    assert refused.refused.code == wire.CODE_OCCUPIED
    assert refused.refused.retryable


def test_another_life_enters_when_the_present_one_is_gone() -> None:
    job, _ = _formed()
    job.stream_lost(2, 1.0)
    actions = job.join(3, _join("b", incarnation=2, key=b"x" * 16), 1.05)
    assert _kinds(actions, 3)[0] == "welcome"


def test_a_node_too_many_for_the_service_may_come_again() -> None:
    job = Job("job", service="here:1", pulse=1.0, most_nodes=1)
    job.restore(None, 0.0)
    job.join(1, _join("a"), 0.0)
    (refused,) = _told(job.join(2, _join("b"), 0.0), 2)
    assert refused.refused.code == wire.CODE_EXHAUSTED
    assert refused.refused.retryable


def test_a_second_join_on_a_stream_is_out_of_place() -> None:
    job, _ = _formed()
    with pytest.raises(MessageError):
        job.receive(1, wire.AgentMessage(join=_join("c")), 1.0)
    assert not job.knows("c")


def test_a_stream_that_is_not_bound_says_nothing() -> None:
    job, _ = _formed()
    assert job.receive(9, wire.AgentMessage(sequence=1, leave=wire.Leave()), 1.0) == []
    assert job.beat(9, 1.0) == []
    assert job.stream_lost(9, 1.0) == []


def test_a_new_leader_takes_over_what_was_written() -> None:
    _, actions = _formed()
    (record,) = [action.record for action in actions if isinstance(action, Write)]
    successor = Job("job", service="there:1", pulse=1.0, most_nodes=10)
    assert not any(isinstance(a, Write) for a in successor.restore(record, 100.0))
    for stream, node in ((1, "a"), (2, "b")):
        actions = successor.join(stream, _join(node, generation=1), 100.1)
        assert _kinds(actions, stream) == ["welcome"]
    assert successor.generation is not None
    assert successor.generation.number == 1


def test_ages_go_on_under_another_leader() -> None:
    """1. A generation, 7.5 s old, is taken over. 2. Its members come back. 3. Another begins."""
    _, actions = _formed()
    (record,) = [action.record for action in actions if isinstance(action, Write)][-1:]
    successor = Job("job", service="there:2", pulse=1.0, most_nodes=10)
    successor.restore(record, 100.0, age=7.5)
    for stream, node in ((1, "a"), (2, "b")):
        join = _join(node, generation=1)
        join.attended = 9.0
        successor.join(stream, join, 100.5)
    status = successor.status(101.0)
    assert status.generation_age == pytest.approx(8.5)
    assert [node.attending_for for node in status.nodes] == [pytest.approx(9.5)] * 2
    failed = wire.WorkerFailed(generation=1, rank=0, signal=9, step=3, store_endpoint="a:2")
    successor.receive(1, wire.AgentMessage(sequence=1, worker_failed=failed), 102.0)
    left = wire.Left(generation=1, version=3, store_endpoint="b:2")
    successor.receive(2, wire.AgentMessage(sequence=1, left=left), 102.5)
    status = successor.status(103.0)
    assert status.generation == 2
    assert status.generation_age <= 1.0


def test_the_status_names_phase_and_reason() -> None:
    job = _job()
    job.join(1, _join("a"), 0.0)
    status = job.status(0.5)
    assert (status.phase, status.generation) == ("forming", 0)
    assert status.reason
    job.join(2, _join("b"), 0.6)
    job.receive(2, wire.AgentMessage(report=wire.Report(status={"step": "7"})), 0.7)
    status = job.status(1.6)
    assert (status.phase, status.generation) == ("running", 1)
    assert status.generation_age == pytest.approx(1.0)
    by_name = {node.node: node for node in status.nodes}
    assert by_name["b"].status["step"] == "7"
    assert by_name["b"].heard_ago == pytest.approx(1.0)
    assert by_name["a"].attending_for == pytest.approx(1.6)
