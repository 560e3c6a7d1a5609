"""What an operator asks of the service: the state of jobs; that they drain, scale or stop; that
they are forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

import grpc
import grpc.aio

from rendezvous.bounds import MAX_TEXT
from rendezvous.errors import ConfigurationError, Unreachable
from rendezvous.outside.echo import plain
from rendezvous.security import Security
from rendezvous.session.channels import Channels
from rendezvous.wire import rendezvous_pb2 as wire

SERVICE = "/remesh.rendezvous.v1.Rendezvous"
DEADLINE = 3.0
MANY_WRITES = 10
"""How many times the deadline it may take to remove all there is."""
_Order = wire.DrainRequest | wire.ScaleRequest | wire.StopRequest
_Request = wire.StatusRequest | wire.ForgetRequest | _Order
_Reply = TypeVar("_Reply", wire.StatusReply, wire.AdminReply, wire.ForgetReply)


class Operator:
    """An async context manager. Every method asks the leader, wherever it is, and raises
    Unreachable when no endpoint answers within `deadline` seconds each."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        security: Security | None = None,
        deadline: float = DEADLINE,
        read_security: Callable[[], Security] | None = None,
    ) -> None:
        """`read_security` reads `security` anew, before each question; it may raise
        ConfigurationError, and what was read before is shown then."""
        if not endpoints:
            raise ConfigurationError("an operator needs the address of at least one service")
        self._endpoints = tuple(endpoints)
        self._security = security or Security()
        self._channels = Channels(security)
        self._deadline = deadline
        self._read_security = read_security

    async def __aenter__(self) -> Operator:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channels.close()

    async def status(self, run_id: str = "") -> wire.StatusReply:
        """One job, or all that the token opens. Without a leader, a reply without jobs."""
        return await self._ask("Status", wire.StatusRequest(run_id=run_id), wire.StatusReply)

    async def drain(self, run_id: str, node: str, *, grace: float, reason: str) -> wire.AdminReply:
        told = plain(reason, MAX_TEXT)
        request = wire.DrainRequest(run_id=run_id, node=node, grace=grace, reason=told)
        return await self._order("Drain", request)

    async def scale(self, run_id: str, nodes: int, *, reason: str = "") -> wire.AdminReply:
        request = wire.ScaleRequest(run_id=run_id, nodes=nodes, reason=plain(reason, MAX_TEXT))
        return await self._order("Scale", request)

    async def stop(self, run_id: str, *, reason: str) -> wire.AdminReply:
        request = wire.StopRequest(run_id=run_id, reason=plain(reason, MAX_TEXT))
        return await self._order("Stop", request)

    async def forget(
        self, run_ids: Sequence[str] = (), *, ended: bool = False, force: bool = False
    ) -> wire.ForgetReply:
        """Remove the records of the jobs named, or of all that have ended and the token opens."""
        request = wire.ForgetRequest(run_ids=run_ids, ended=ended, force=force)
        deadline = MANY_WRITES * self._deadline
        return await self._ask("Forget", request, wire.ForgetReply, deadline=deadline)

    async def _order(self, method: str, request: _Order) -> wire.AdminReply:
        leader = (await self.status(request.run_id)).leader
        return await self._ask(method, request, wire.AdminReply, first=leader)

    async def _ask(
        self,
        method: str,
        request: _Request,
        kind: type[_Reply],
        *,
        first: str = "",
        deadline: float = 0.0,
    ) -> _Reply:
        """The leader's answer if it can be had, else any replica's."""
        await self._read_again()
        tried: dict[str, str] = {}
        answer: _Reply | None = None
        queue = [endpoint for endpoint in (first, *self._endpoints) if endpoint]
        while queue:
            endpoint = queue.pop(0)
            if endpoint in tried:
                continue
            call = self._channels.get(endpoint).unary_unary(f"{SERVICE}/{method}", bytes, bytes)
            try:
                data = await call(
                    request.SerializeToString(),
                    timeout=deadline or self._deadline,
                    metadata=self._security.metadata(),
                )
            except grpc.aio.AioRpcError as error:
                tried[endpoint] = f"{error.code().name.lower()}: {error.details()}"
                continue
            tried[endpoint] = "not the leader"
            answer = kind.FromString(data)
            if isinstance(answer, wire.StatusReply):
                leads = answer.leader == answer.service
            elif isinstance(answer, wire.AdminReply):
                leads = not answer.leader
            else:
                leads = not answer.reason
            if leads:
                return answer
            # A replica that is cut off from the store knows of no leader, where others may.
            if answer.leader:
                queue.insert(0, answer.leader)
        if answer is not None:
            return answer
        told = "; ".join(f"{endpoint}: {why}" for endpoint, why in tried.items())
        raise Unreachable(f"no rendezvous service answers ({told})")

    async def _read_again(self) -> None:
        if self._read_security is None:
            return
        with suppress(ConfigurationError):
            fresh = self._read_security()
            if not fresh.same_tls(self._security):
                await self._channels.show(fresh)
            self._security = fresh
