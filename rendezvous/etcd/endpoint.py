"""One member of the cluster: its address, its channel, and one attempt at a call."""

from __future__ import annotations

import asyncio
import random

import grpc
import grpc.aio

from rendezvous.errors import StoreUnavailable
from rendezvous.etcd.methods import Method, Request, Response
from rendezvous.supervision import logged, start_task

# etcd ends a connection that pings more often than every 5 s, or with no call in flight. Without
# ping_timeout beside keepalive_timeout, a stopped peer goes unnoticed for a minute.
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.ping_timeout_ms", 2000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)


def options(connect: float) -> list[tuple[str, int]]:
    """`connect`: how many seconds an attempt to connect may take, and one in any case."""
    return [*OPTIONS, ("grpc.min_reconnect_backoff_ms", int(1000 * max(1.0, connect)))]


SETTLED = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)

Metadata = tuple[tuple[str, str], ...]

# A member without a leader refuses at once, so that another one is asked.
REQUIRE_LEADER: Metadata = (("hasleader", "true"),)
PAUSE = (0.02, 0.1)
"""Seconds between two attempts, at random; twice as long with each round of all members."""
NO_LOGIN = "authentication is not enabled"
"""How etcd says that it asks nobody for a name."""
FAREWELL = 10.0
"""Seconds that calls on an old connection have to end, more than any of them takes; a watch never
does, and goes on elsewhere."""
LONGEST_PAUSE = 1.0
"""Seconds: nobody need be asked more often for hours, and one that is back is found soon."""


def pause_after(failures: int, members: int) -> float:
    """Seconds until the next attempt, after so many in a row that failed."""
    return min(LONGEST_PAUSE, random.uniform(*PAUSE) * 2.0 ** min(failures // members, 10))


class Endpoint:
    """The channel is opened by the first call. `connect`: as `options` has it."""

    def __init__(
        self, address: str, credentials: grpc.ChannelCredentials | None, *, connect: float = 1.0
    ) -> None:
        self.address = address
        self._options = options(connect)
        self._credentials = credentials
        self._channel: grpc.aio.Channel | None = None

    async def reach(self, within: float) -> bool:
        """Wait until it is known whether the member can be reached; False when it takes too long.

        After a failure to connect this is True as well: the call then fails at once, and says why.
        """
        channel = self._open()
        state = channel.get_state(try_to_connect=True)
        try:
            async with asyncio.timeout(within):
                while state not in SETTLED:
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            return False
        return True

    async def ask(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        timeout: float,
        metadata: Metadata,
    ) -> Response:
        """One request, one answer; raises grpc.aio.AioRpcError and StoreUnavailable."""
        if not method.streams:
            unary = self._open().unary_unary(
                method.path, method.request.SerializeToString, method.response.FromString
            )
            answer: Response = await unary(request, timeout=timeout, metadata=metadata)
            return answer
        call = self.stream(method, metadata=metadata, timeout=timeout)
        try:
            await call.write(request)
            first = await call.read()
            if not isinstance(first, method.response):
                raise StoreUnavailable(f"{self.address}: the stream ended without an answer")
            return first
        finally:
            call.cancel()

    def stream(
        self,
        method: Method[Request, Response],
        *,
        metadata: Metadata,
        timeout: float | None = None,
    ) -> grpc.aio.StreamStreamCall[Request, Response]:
        opened = self._open().stream_stream(
            method.path, method.request.SerializeToString, method.response.FromString
        )
        return opened(None, timeout=timeout, metadata=metadata)

    def show(self, credentials: grpc.ChannelCredentials | None) -> None:
        """Other credentials from now on, on a connection of their own."""
        self._credentials = credentials
        if self._channel is not None:
            start_task(self._channel.close(FAREWELL), name="an old connection", failed=logged)
            self._channel = None

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close(None)

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self.address, options=self._options)
            else:
                self._channel = grpc.aio.secure_channel(
                    self.address, self._credentials, options=self._options
                )
        return self._channel
