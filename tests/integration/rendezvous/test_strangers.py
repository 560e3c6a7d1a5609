"""Who may speak, for whom, and what a bad message does: nothing, with a typed answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from rendezvous.codec import spec_to_wire
from rendezvous.errors import Unreachable
from rendezvous.security import Security, ServerSecurity, Tokens
from rendezvous.service import Running, running
from rendezvous.service.service import MAX_OFFENCES
from rendezvous.session import Operator, Refused
from rendezvous.session.session import ATTEND
from rendezvous.store import MemoryStore
from rendezvous.wire import rendezvous_pb2 as wire
from tests.attendants import Crew, spec_of
from tests.certificates import Certificates

TOKENS = Tokens.parse("token-for-everyone\nsecret token-for-the-secret\n")


@asynccontextmanager
async def _replica(security: ServerSecurity | None = None) -> AsyncIterator[Running]:
    async with running(MemoryStore(), listen="127.0.0.1:0", security=security) as replica:
        await replica.service.led.wait()
        yield replica


def _join(**changes: object) -> wire.AgentMessage:
    fields: dict[str, object] = {
        "protocol": 1,
        "run_id": "job",
        "node": "x",
        "incarnation": 1,
        "slots": 1,
        "host": "127.0.0.1",
        "store_endpoint": "127.0.0.1:1",
        "spec": spec_to_wire(spec_of(1, 2)),
        "resume_key": b"k" * 16,
    }
    return wire.AgentMessage(join=wire.Join(**{**fields, **changes}))  # type: ignore[arg-type]


@asynccontextmanager
async def _stream(
    replica: Running, *messages: bytes
) -> AsyncIterator[Callable[[], Awaitable[wire.ServiceMessage]]]:
    """A raw stream on which these were sent; yields what reads the next answer."""
    async with grpc.aio.insecure_channel(replica.endpoint) as channel:
        call = channel.stream_stream(ATTEND, bytes, bytes)()
        for message in messages:
            await call.write(message)

        async def answer() -> wire.ServiceMessage:
            data = await call.read()
            assert isinstance(data, bytes), "the stream ended"
            return wire.ServiceMessage.FromString(data)

        yield answer
        call.cancel()


BAD_JOINS = {
    "no protobuf": b"\xff\xff\xff",
    "empty": b"",
    "not a join": wire.AgentMessage(sequence=1, running=wire.Running()).SerializeToString(),
    "another protocol": _join(protocol=2).SerializeToString(),
    "a path for a name": _join(run_id="../etc").SerializeToString(),
    "no name": _join(node="").SerializeToString(),
    "a name too long": _join(node="n" * 300).SerializeToString(),
    "no slots": _join(slots=0).SerializeToString(),
    "slots beyond reason": _join(slots=1 << 20).SerializeToString(),
    "too many labels": _join(labels={str(i): "" for i in range(40)}).SerializeToString(),
    "a label too long": _join(labels={"rack": "r" * 500}).SerializeToString(),
    "a spec that can't be": _join(spec=wire.JobSpec(min_nodes=3, max_nodes=1)).SerializeToString(),
    "a spec with no number": _join(
        spec=wire.JobSpec(min_nodes=1, max_nodes=1, beat_timeout=float("nan"))
    ).SerializeToString(),
    "no resume key": _join(resume_key=b"").SerializeToString(),
    "control characters": _join(host="a\nb").SerializeToString(),
}


@pytest.mark.parametrize("message", BAD_JOINS.values(), ids=BAD_JOINS.keys())
async def test_a_bad_join_is_refused_and_changes_nothing(message: bytes) -> None:
    async with _replica() as replica, Operator([replica.endpoint]) as operator:
        async with _stream(replica, message) as answer:
            refused = (await answer()).refused
            assert refused.code == wire.CODE_INVALID
            assert refused.reason
        assert not (await operator.status()).jobs


async def test_a_bad_message_after_the_join_gets_a_problem_and_the_node_stays() -> None:
    async with _replica() as replica, Operator([replica.endpoint]) as operator:
        bad = [
            b"\xff\xff",
            _join().SerializeToString(),
            wire.AgentMessage(running=wire.Running(generation=1)).SerializeToString(),
            wire.AgentMessage(sequence=1, leave=wire.Leave(reason="r" * 5000)).SerializeToString(),
            wire.AgentMessage(sequence=2, drain=wire.DrainNotice(grace=-1)).SerializeToString(),
        ]
        async with _stream(replica, _join().SerializeToString(), *bad) as answer:
            problems = 0
            while problems < len(bad):
                problems += (await answer()).WhichOneof("body") == "problem"
            (job,) = (await operator.status()).jobs
            assert [node.node for node in job.nodes] == ["x"]


async def test_too_many_bad_messages_end_the_stream() -> None:
    async with _replica() as replica:
        messages = [_join().SerializeToString(), *[b"\xff"] * (MAX_OFFENCES + 1)]
        async with _stream(replica, *messages) as answer:
            with pytest.raises(AssertionError, match="the stream ended"):
                await _read_on(answer)


async def _read_on(answer: Callable[[], Awaitable[wire.ServiceMessage]]) -> None:
    while True:
        await answer()


async def test_a_message_too_large_ends_only_its_own_stream() -> None:
    async with _replica() as replica, Crew([replica.endpoint], spec_of(1, 2)) as crew:
        (a,) = await crew.join("a")
        await crew.formed(1)
        async with _stream(replica, b"\0" * (1 << 20)) as answer:
            with pytest.raises((grpc.RpcError, AssertionError)):
                await answer()
        await a.until_steps(10)
        assert a.connected


async def test_nobody_takes_the_place_of_a_living_node() -> None:
    async with _replica() as replica, Crew([replica.endpoint], spec_of(1, 2)) as crew:
        (a,) = await crew.join("x")
        await crew.formed(1)
        life = a.generations[-1].members[0].incarnation
        for incarnation, code in (
            (life, wire.CODE_MISMATCH),
            (life + 1, wire.CODE_OCCUPIED),
            (life - 1, wire.CODE_OCCUPIED),
        ):
            message = _join(
                incarnation=incarnation,
                resume_key=b"another key 1234",
                spec=spec_to_wire(spec_of(1, 2)),
            )
            async with _stream(replica, message.SerializeToString()) as answer:
                assert (await answer()).refused.code == code
        await a.until_steps(10)
        assert a.connected
        assert len(a.generations) == 1


@pytest.mark.parametrize(
    ("run_id", "token", "welcome"),
    [
        ("job", "token-for-everyone", True),
        ("job", "token-for-the-secret", False),
        ("job", None, False),
        ("secret", "token-for-the-secret", True),
        ("secret", "token-for-everyone", False),
        ("secret", "token-for-the-secret-", False),
    ],
)
async def test_a_token_opens_its_job(run_id: str, token: str | None, welcome: bool) -> None:
    async with _replica(ServerSecurity(tokens=TOKENS)) as replica:
        security = Security(token=token)
        async with Crew(
            [replica.endpoint], spec_of(1, 1), run_id=run_id, security=security
        ) as crew:
            (a,) = await crew.join("a")
            if welcome:
                await crew.formed(1)
            else:
                refused = await a.until_heard(Refused)
                assert isinstance(refused, Refused)
                assert "token" in refused.reason
                assert not refused.retryable


async def test_an_operator_sees_only_what_the_token_opens() -> None:
    async with _replica(ServerSecurity(tokens=TOKENS)) as replica:
        security = Security(token="token-for-the-secret")
        async with (
            Crew([replica.endpoint], spec_of(1, 1), run_id="secret", security=security) as crew,
            Operator([replica.endpoint], security=security) as knows,
            Operator([replica.endpoint], security=Security(token="token-for-everyone")) as not_it,
        ):
            await crew.join("a")
            await crew.formed(1)
            assert [job.run_id for job in (await knows.status()).jobs] == ["secret"]
            assert not (await not_it.status()).jobs
            reply = await not_it.drain("secret", "a", grace=1, reason="mischief")
            assert not reply.accepted


async def test_tls_and_mutual_tls(certificates: Certificates) -> None:
    ca = certificates.ca.read_bytes()
    server = ServerSecurity(
        cert=certificates.server.cert.read_bytes(),
        key=certificates.server.key.read_bytes(),
        ca=ca,
        tokens=TOKENS,
    )
    known = Security(
        ca=ca,
        cert=certificates.client.cert.read_bytes(),
        key=certificates.client.key.read_bytes(),
        token="token-for-everyone",
    )
    async with _replica(server) as replica:
        async with Crew([replica.endpoint], spec_of(1, 1), security=known) as crew:
            await crew.join("a")
            await crew.formed(1)
        for stranger in (
            Security(token="token-for-everyone"),
            Security(ca=ca, token="token-for-everyone"),
        ):
            async with Operator([replica.endpoint], security=stranger, deadline=5) as operator:
                with pytest.raises(Unreachable):
                    await operator.status()
