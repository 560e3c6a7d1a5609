"""What comes over a wire: from agents to the service, and from workers to their agent."""

from __future__ import annotations

import json
import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from rendezvous.codec import spec_to_wire
from rendezvous.errors import MessageError
from rendezvous.membership import JobSpec
from rendezvous.service.checks import agent_message
from rendezvous.wire import rendezvous_pb2 as wire
from tests.fuzz.mutations import broken_json, torn
from tests.fuzz.trial import ROUNDS, trial
from trainer.agent.words import heard
from trainer.channel import LineBuffer

JOIN = wire.Join(
    protocol=1,
    run_id="job",
    node="n",
    incarnation=1,
    slots=2,
    host="h",
    labels={"zone": "a"},
    store_endpoint="h:1",
    spec=spec_to_wire(JobSpec(max_nodes=4)),
    resume_key=b"k" * 16,
)
FAILED = wire.WorkerFailed(generation=2, rank=1, exit_code=1, step=-1, cause="c", error="e")
MESSAGES = [
    wire.AgentMessage(join=JOIN),
    wire.AgentMessage(beat=wire.Beat()),
    wire.AgentMessage(sequence=1, running=wire.Running(generation=2, store_endpoint="h:1")),
    wire.AgentMessage(sequence=1, listening=wire.Listening(generation=2, store_endpoint="h:1")),
    wire.AgentMessage(sequence=2, left=wire.Left(generation=2, version=7, cause="c")),
    wire.AgentMessage(sequence=3, worker_failed=FAILED),
    wire.AgentMessage(sequence=4, drain=wire.DrainNotice(grace=30, reason="r")),
    wire.AgentMessage(sequence=5, finished=wire.Finished(generation=2, status="completed")),
    wire.AgentMessage(sequence=6, leave=wire.Leave(reason="r")),
    wire.AgentMessage(report=wire.Report(status={"step": "7"})),
]
EXTREMES: dict[int, tuple[Any, ...]] = {
    FieldDescriptor.CPPTYPE_UINT64: (0, 1, 2**53, 2**62, 2**63, 2**64 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 1, 65_537, 2**31, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), -2, -1, 0, 2**63 - 1),
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), -1, 0, 2**31 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: (-1.0, 0.0, 1e300, float("inf"), float("nan")),
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
    FieldDescriptor.CPPTYPE_STRING: ("", "..", "a/b", "\0", "\n", "é\u202e", "x" * 5000),
}


def an_agents(rng: random.Random) -> bytes:
    message = wire.AgentMessage()
    message.CopyFrom(rng.choice(MESSAGES))
    if rng.random() < 0.5:
        return torn(message.SerializeToString() * rng.choice([1, 1, 2]), rng)
    part: Message = message
    while True:
        inner = [v for _, v in part.ListFields() if isinstance(v, Message)]
        if not inner or rng.random() < 0.3:
            break
        part = rng.choice(inner)
    plain = [f for f in part.DESCRIPTOR.fields if f.cpp_type in EXTREMES]
    for field in rng.sample(plain, min(len(plain), rng.choice([1, 1, 2, 3]))):
        value = rng.choice(EXTREMES[field.cpp_type])
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        setattr(part, field.name, value.encode() if is_bytes else value)
    return message.SerializeToString()


@ROUNDS
def test_an_agents_messages(rounds: int) -> None:
    trial("messages of agents", an_agents, agent_message, MessageError, count=6000, rounds=rounds)


SUMMARY = {"steps": 7, "final_loss": 0.5, "weights_sha256": "a", "skipped_steps": 0}
WORDS: list[dict[str, Any]] = [
    {"type": "hello", "pid": 9},
    {
        "type": "entered",
        "generation": 2,
        "version": 7,
        "source": "memory",
        "mesh": {"dp": 2, "pp": 1},
        "seconds": {"load": 0.5},
    },
    {"type": "step", "generation": 2, "step": 8, "loss": 0.5, "tokens": 9, "step_seconds": 0.1},
    {"type": "waiting", "generation": 2, "on": True},
    {"type": "left", "generation": 2, "version": 7, "reason": "r", "error": "e", "stopped": ""},
    {"type": "staged", "generation": 2, "version": 7, "path": "/dev/shm/x"},
    {"type": "unsaved", "generation": 2, "version": 7, "error": "e", "url": "u", "options": {}},
    {"type": "spare", "generation": 2},
    {"type": "finished", "generation": 2, "status": "completed", "summary": SUMMARY},
    {"type": "failed", "category": "job", "message": "m", "traceback": "t", "error": "e"},
    {"type": "event", "event": "step.skipped", "generation": 2, "rank": 0, "notice": "n"},
]


def a_workers(rng: random.Random) -> bytes:
    good = json.dumps(rng.choice(WORDS)).encode()
    return broken_json(rng.choice(WORDS), rng) + b"\n" + good + b"\n"


@ROUNDS
def test_a_workers_messages(rounds: int) -> None:
    def read(data: bytes) -> None:
        for message in LineBuffer().feed(data):
            heard(message)

    trial("messages of workers", a_workers, read, ValueError, count=6000, rounds=rounds)
