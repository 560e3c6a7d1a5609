"""An operator finds the leader, whomever it asks first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rendezvous.session import Operator
from rendezvous.wire import rendezvous_pb2 as wire


class Replicas:
    """`knows` says of each replica, by address, whom it takes for the leader."""

    def __init__(self, **knows: str) -> None:
        self.knows, self.orders = knows, []
        self.said: list[bytes] = []
        """What came with each order."""

    def get(self, endpoint: str) -> Any:
        leader = self.knows[endpoint]

        def method(path: str, *_: object) -> Any:
            async def call(data: bytes, **__: object) -> bytes:
                if path.endswith("Status"):
                    status = wire.StatusReply(service=endpoint, leader=leader)
                    if leader == endpoint:
                        status.jobs.add(run_id="job")
                    return status.SerializeToString()
                if leader != endpoint:
                    return wire.AdminReply(
                        reason="does not lead", leader=leader
                    ).SerializeToString()
                self.orders.append(path)
                self.said.append(data)
                return wire.AdminReply(accepted=True).SerializeToString()

            return call

        return SimpleNamespace(unary_unary=method)

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("told", ["", "b"], ids=["cut off from the store", "a follower"])
async def test_the_leader_is_found_whoever_is_asked_first(told: str, monkeypatch):
    replicas = Replicas(a=told, b="b", c="b")
    monkeypatch.setattr("rendezvous.session.operator.Channels", lambda _: replicas)
    async with Operator(["a", "b", "c"]) as operator:
        status = await operator.status()
        assert (status.leader, len(status.jobs)) == ("b", 1)
        assert (await operator.stop("job", reason="test")).accepted
    assert replicas.orders == ["/remesh.rendezvous.v1.Rendezvous/Stop"]


async def test_without_a_leader_there_is_a_reply_without_jobs(monkeypatch):
    monkeypatch.setattr("rendezvous.session.operator.Channels", lambda _: Replicas(a="", b=""))
    async with Operator(["a", "b"]) as operator:
        status = await operator.status()
    assert (status.leader, len(status.jobs)) == ("", 0)


async def test_a_reason_may_hold_what_the_shell_could_not_read(monkeypatch):
    """A byte that is no text, as Python has it in its arguments; and a colour."""
    replicas = Replicas(a="a")
    monkeypatch.setattr("rendezvous.session.operator.Channels", lambda _: replicas)
    async with Operator(["a"]) as operator:
        await operator.stop("job", reason="caf\udce9 \x1b[31mis closed")
        await operator.drain("job", "n", grace=1.0, reason="\udce9")
        await operator.scale("job", 2, reason="\udce9")
    assert wire.StopRequest.FromString(replicas.said[0]).reason == "caf\\udce9 is closed"
    assert wire.DrainRequest.FromString(replicas.said[1]).reason == "\\udce9"
    assert wire.ScaleRequest.FromString(replicas.said[2]).reason == "\\udce9"
