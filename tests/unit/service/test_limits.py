"""What one job, one message or one record may cost the others: nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rendezvous.bounds import MAX_CLAIM, MAX_NUMBER
from rendezvous.codec import spec_to_wire
from rendezvous.errors import MessageError
from rendezvous.membership import JobSpec
from rendezvous.security import Tokens
from rendezvous.service import checks, forgetting, service
from rendezvous.service.descriptors import RESERVED, room_for_streams
from rendezvous.service.forgetting import forgettable
from rendezvous.service.metrics import Metrics
from rendezvous.service.records import JOBS, job_key
from rendezvous.service.service import Service
from rendezvous.store import Delete, MemoryStore, Put
from rendezvous.timeouts import Timeouts
from rendezvous.wire import rendezvous_pb2 as wire
from tests import virtual_time

SPEC = JobSpec(max_nodes=4, last_call=0.01)


def join_of(run_id: str = "job", **other: Any) -> wire.AgentMessage:
    fields: dict[str, Any] = {
        "protocol": 1,
        "run_id": run_id,
        "node": "n",
        "incarnation": 1,
        "slots": 1,
        "host": "h",
        "store_endpoint": "h:1",
        "spec": spec_to_wire(SPEC),
        "resume_key": b"k" * 16,
    }
    return wire.AgentMessage(join=wire.Join(**fields | other))


# Messages


@pytest.mark.parametrize("field", ["incarnation", "generation", "earlier", "slots", "protocol"])
@pytest.mark.parametrize("value", [2**63, 2**64 - 1, MAX_NUMBER + 1])
def test_a_join_with_a_number_beyond_reason_is_refused(field: str, value: int) -> None:
    if field in ("slots", "protocol"):
        value = 2**32 - 1
    with pytest.raises(MessageError, match=field):
        checks.agent_message(join_of(**{field: value}).SerializeToString())


@pytest.mark.parametrize(
    "message",
    [
        wire.AgentMessage(sequence=2**64 - 1, beat=wire.Beat()),
        wire.AgentMessage(sequence=1, running=wire.Running(generation=2**64 - 1)),
        wire.AgentMessage(sequence=1, listening=wire.Listening(generation=2**64 - 1)),
        wire.AgentMessage(sequence=1, left=wire.Left(generation=2**64 - 1)),
        wire.AgentMessage(sequence=1, left=wire.Left(version=2**64 - 1)),
        wire.AgentMessage(sequence=1, worker_failed=wire.WorkerFailed(rank=2**32 - 1)),
        wire.AgentMessage(sequence=1, worker_failed=wire.WorkerFailed(step=2**63 - 1)),
        wire.AgentMessage(sequence=1, worker_failed=wire.WorkerFailed(step=-(2**63))),
        wire.AgentMessage(sequence=1, drain=wire.DrainNotice(grace=float("inf"))),
        wire.AgentMessage(
            sequence=1, finished=wire.Finished(generation=2**64 - 1, status="completed")
        ),
        join_of(spec=wire.JobSpec(min_nodes=1, max_nodes=2**32 - 1)),
        join_of(spec=wire.JobSpec(min_nodes=1, max_nodes=1, max_restarts=2**32 - 1)),
        join_of(spec=wire.JobSpec(min_nodes=1, max_nodes=1, wait=1e300)),
    ],
    ids=lambda message: str(message)[:60].replace("\n", " "),
)
def test_a_message_with_a_number_beyond_reason_is_refused(message: wire.AgentMessage) -> None:
    with pytest.raises(MessageError):
        checks.agent_message(message.SerializeToString())


# A service without a network, in time that jumps


class Agent:
    """One stream: what it is told, and what it says, `JOIN` first."""

    def __init__(self, of: Service, join: wire.AgentMessage, token: str = "") -> None:
        self.told: list[wire.ServiceMessage] = []
        self._said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._said.put_nowait(join.SerializeToString())
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(of.attend(self._said.get, self._hear, token))

    async def _hear(self, data: bytes) -> None:
        self.told.append(wire.ServiceMessage.FromString(data))
        self._changed.set()

    async def until(self, body: str) -> Any:
        """The first message of this kind; fails after 1,000 seconds."""
        async with asyncio.timeout(1000.0):
            while True:
                for message in self.told:
                    if message.WhichOneof("body") == body:
                        return getattr(message, body)
                self._changed.clear()
                await self._changed.wait()

    def say(self, **body: Any) -> None:
        self._said.put_nowait(wire.AgentMessage(**body).SerializeToString())

    async def complete(self) -> None:
        """Run the job's generation to its end, hear that, and go."""
        number = (await self.until("generation_began")).number
        self.say(sequence=1, running=wire.Running(generation=number))
        self.say(sequence=2, finished=wire.Finished(generation=number, status="completed"))
        assert (await self.until("job_ended")).status == "completed"
        await self.go()

    async def ended(self) -> None:
        """The service has ended the stream."""
        await asyncio.wait([self._task])

    async def go(self) -> None:
        self._said.put_nowait(None)
        await asyncio.wait([self._task])


@asynccontextmanager
async def leading(store: MemoryStore, **other: Any) -> AsyncIterator[Service]:
    tokens = other.pop("tokens", Tokens())
    made = Service(
        store,
        address="s:1",
        tokens=lambda: tokens,
        timeouts=Timeouts(),
        metrics=Metrics(),
        **other,
    )
    async with made.candidate.standing():
        await made.led.wait()
        yield made


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    def run(**fixtures: Any) -> None:
        virtual_time.run(test(**fixtures))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.__signature__ = __import__("inspect").signature(test)  # type: ignore[attr-defined]
    return run


@in_virtual_time
async def test_a_job_with_the_largest_number_goes_on_and_status_tells_of_it() -> None:
    async with leading(MemoryStore()) as made:
        agent = Agent(made, join_of(earlier=MAX_NUMBER))
        assert (await agent.until("generation_began")).number == MAX_CLAIM + 1
        (job,) = made.status("", "").jobs
        assert job.generation == MAX_CLAIM + 1
        await agent.complete()


@in_virtual_time
async def test_jobs_that_have_ended_keep_no_other_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """1. of two jobs that a service takes, one goes on; 2. ten others come and end, one by one;
    3. only the newest of those are remembered, here and in the store; 4. a third is one too many.
    """
    monkeypatch.setattr(service, "MAX_JOBS", 2)
    monkeypatch.setattr(service, "forgettable", lambda ended, now: forgettable(ended, now, most=3))
    store = MemoryStore()
    async with leading(store) as made:
        stays = Agent(made, join_of("stays"))
        await stays.until("generation_began")
        for number in range(10):
            await Agent(made, join_of(f"short-{number}")).complete()
            await asyncio.sleep(1.0)
        remembered = [job_key(f"short-{number}") for number in (7, 8, 9)]
        entries = (await store.list(JOBS)).entries
        assert sorted(entry.key for entry in entries) == [*remembered, job_key("stays")]
        assert len(made.status("", "").jobs) == 4
        again = Agent(made, join_of("short-9", incarnation=2))
        assert (await again.until("job_ended")).status == "completed"
        await again.go()
        second = Agent(made, join_of("second"))
        await second.until("generation_began")
        refused = await Agent(made, join_of("third")).until("refused")
        assert (refused.code, refused.retryable) == (wire.CODE_EXHAUSTED, True)


def test_the_oldest_ended_jobs_are_forgotten_first() -> None:
    ended = {f"j{i}": float(i) for i in range(10)}
    assert forgettable(ended, 10.0, most=10) == []
    assert forgettable(ended, 10.0, most=8) == ["j0", "j1"]
    assert forgettable(ended, forgetting.KEPT_SECONDS + 2.5, most=10) == ["j0", "j1", "j2"]
    many = {f"j{i}": 0.0 for i in range(10_000)}
    assert len(forgettable(many, 1.0)) == forgetting.AT_ONCE


GOOD = {
    "format": 1,
    "spec": SPEC.to_dict(),
    "generation": {
        "number": 1,
        "reason": "x",
        "restarts": 0,
        "members": [
            {"node": "n0", "incarnation": 1, "slots": 1, "host": "h", "store_endpoint": "h:1"}
        ],
    },
    "active": True,
}


def altered(**keys: Any) -> bytes:
    return json.dumps(GOOD | keys).encode()


def member(**keys: Any) -> bytes:
    generation: Any = GOOD["generation"]
    (good,) = generation["members"]
    return altered(generation=generation | {"members": [good | keys]})


BAD = {
    "nested": b'{"format":' + b"[" * 100_000,
    "no json": b"{",
    "a list": b"[]",
    "a number of many digits": b'{"format":' + b"1" * 10_000 + b"}",
    "a later format": altered(format=2),
    "target of the wrong type": altered(target="2"),
    "target beyond reason": altered(target=10**9),
    "no spec": altered(spec=None),
    "a spec of the wrong type": altered(spec={"max_nodes": "4"}),
    "a spec that can't be": altered(spec={"min_nodes": 4, "max_nodes": 2}),
    "a time that is none": altered(spec={"wait": 1e400}),
    "active without a generation": altered(generation=None),
    "no members": altered(generation={"number": 1, "reason": "", "members": []}),
    "a generation beyond 64 bits": altered(generation={"number": 2**64, "members": []}),
    "slots of the wrong type": member(slots="1"),
    "slots beyond reason": member(slots=10**9),
    "an incarnation below 0": member(incarnation=-1),
    "a path for a node": member(node="../x"),
    "labels of the wrong type": member(labels={"a": 1}),
    "drains of the wrong type": altered(drains=[1]),
    "a drain without grace": altered(drains={"n0": {"incarnation": 1, "reason": ""}}),
    "an end that is none": altered(ended={"status": "paused", "reason": ""}),
    "evidence of the wrong type": altered(evidence=[{"step": "1"}]),
    "restarts beyond reason": altered(restarts=2**40),
    "true for a number": altered(restarts=True),
}


@in_virtual_time
async def test_a_record_that_can_not_be_read_is_one_job_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """1. many jobs' records are damaged, each in its own way; 2. a service leads, once, and names
    each; 3. another job begins; 4. agents of a damaged one are told to come again."""
    caplog.set_level(logging.INFO)
    store = MemoryStore()
    keys = [job_key(f"bad-{index}") for index in range(len(BAD))]
    strange = [f"{JOBS}../job", f"{JOBS}a/b/job", f"{JOBS}/job"]
    writes = [Put(key, value) for key, value in zip(keys, BAD.values(), strict=True)]
    await store.txn([], [*writes, *(Put(key, b"{") for key in strange)])
    async with leading(store) as made:
        agent = Agent(made, join_of("other"))
        await agent.until("generation_began")
        refused = await Agent(made, join_of("bad-0")).until("refused")
        assert refused.retryable
        assert [job.run_id for job in made.status("", "").jobs] == ["other"]
        await asyncio.sleep(100.0)
        await agent.go()
    for key in keys:
        assert caplog.text.count(f"{key} can't be read") == 1
    assert caplog.text.count("leading, with token") == 1
    assert {entry.key for entry in (await store.list(JOBS)).entries} >= {*keys, *strange}
    await store.txn([], [Delete(key) for key in keys])


@in_virtual_time
async def test_who_can_not_lead_pauses_before_it_stands_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = Service(
        MemoryStore(), address="s:1", tokens=Tokens, timeouts=Timeouts(), metrics=Metrics()
    )

    async def fail(leadership: object) -> None:
        raise RuntimeError("the restoring went wrong")

    monkeypatch.setattr(made, "_restore", fail)
    async with made.candidate.standing():
        await asyncio.sleep(60.0)
    assert 2 <= caplog.text.count("leading, with token") <= 13
    assert "the restoring went wrong" in caplog.text


@in_virtual_time
async def test_of_who_shows_no_token_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(data: bytes) -> wire.AgentMessage:
        raise AssertionError("it was read")

    monkeypatch.setattr(checks, "agent_message", read)
    tokens = Tokens.parse("token-for-everyone\nsecret token-for-the-secret\n")
    async with leading(MemoryStore(), tokens=tokens) as made:
        refused = await Agent(made, join_of(), "Bearer another").until("refused")
        assert refused.code == wire.CODE_UNAUTHENTICATED
        assert made.knows("Bearer token-for-the-secret")
        assert not made.knows("Bearer token-for-the-secret-")


@in_virtual_time
async def test_so_many_agents_as_there_are_open_files_for() -> None:
    async with leading(MemoryStore(), most_streams=2) as made:
        agents = [Agent(made, join_of(node=node)) for node in "ab"]
        for agent in agents:
            await agent.until("welcome")
        refused = await Agent(made, join_of(node="c")).until("refused")
        assert (refused.code, refused.retryable) == (wire.CODE_EXHAUSTED, True)
        await agents[0].go()
        await Agent(made, join_of(node="c")).until("welcome")


@pytest.mark.parametrize(
    ("limits", "room", "raised"),
    [
        ((1024, 4096), 4096 - RESERVED, [(4096, 4096)]),
        ((96, 96), 96 - RESERVED, []),
        ((10, 10), 1, []),
        ((1024, 1 << 20), 65_536, [(1 << 20, 1 << 20)]),
        ((1024, -1), 65_536, [(65_536 + RESERVED, -1)]),
    ],
)
def test_the_limit_on_open_files_is_raised(
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
    room: int,
    raised: list[tuple[int, int]],
) -> None:
    done: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda kind, value: done.append(value))
    assert room_for_streams(65_536) == room
    assert done == raised
