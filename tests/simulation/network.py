"""Hosts, links between them that delay, stop and break, and streams over the links."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio

DELAYS = (0.0002, 0.003)
SLOW_DELAYS = (0.02, 0.3)
GIVE_UP = 7.5

Serve = Callable[[Callable[[], Awaitable[bytes | None]], Callable[[bytes], Awaitable[None]]], Any]


class Network:
    """Who reaches whom, and how fast."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._loop = asyncio.get_running_loop()
        self._cut: set[frozenset[str]] = set()
        self._slow: set[str] = set()
        self._healed = asyncio.Event()
        self._servers: dict[str, Serve] = {}
        self.pipes: list[Pipe] = []

    def delay(self, one: str, other: str) -> float:
        slow = one in self._slow or other in self._slow
        return self.rng.uniform(*(SLOW_DELAYS if slow else DELAYS))

    def reaches(self, one: str, other: str) -> bool:
        return frozenset((one, other)) not in self._cut

    async def passable(self, one: str, other: str) -> None:
        """Waits until the link is whole."""
        while not self.reaches(one, other):
            await self._healed.wait()

    def cut(self, one: str, other: str) -> None:
        self._cut.add(frozenset((one, other)))

    def slow_down(self, host: str) -> None:
        self._slow.add(host)

    def heal(self) -> None:
        self._cut.clear()
        self._slow.clear()
        self._mend()

    def mend(self, one: str, other: str) -> None:
        self._cut.discard(frozenset((one, other)))
        self._mend()

    def _mend(self) -> None:
        self._healed.set()
        self._healed = asyncio.Event()

    # Servers

    def listen(self, host: str, serve: Serve) -> None:
        self._servers[host] = serve

    def stop_listening(self, host: str) -> None:
        self._servers.pop(host, None)
        self.break_streams(host)

    def server(self, host: str) -> Serve | None:
        return self._servers.get(host)

    def connect(self, client: str, host: str) -> Pipe:
        pipe = Pipe(self, client, host)
        self.pipes.append(pipe)
        return pipe

    def break_streams(self, host: str, other: str | None = None) -> None:
        """As when a process ends, or a box between them forgets the connection."""
        for pipe in list(self.pipes):
            ends = {pipe.client, pipe.server}
            if host in ends and (other is None or other in ends):
                pipe.snap()


class _Way:
    """One direction: in order, each message later than the one before, none lost while it holds."""

    def __init__(self, network: Network, source: str, sink: str) -> None:
        self._network, self._source, self._sink = network, source, sink
        self._loop = asyncio.get_running_loop()
        self._sent: deque[bytes | None] = deque()
        self._arrived: deque[bytes | None] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._carrier: asyncio.Task[None] | None = None
        self.over = False

    def send(self, data: bytes | None) -> None:
        self._sent.append(data)
        if self._carrier is None:
            self._carrier = self._loop.create_task(self._carry())

    def end(self) -> None:
        """What is under way is lost; the reader sees the end."""
        self.over = True
        if self._carrier is not None:
            self._carrier.cancel()
        self._arrived.append(None)
        self._wake()

    async def read(self) -> bytes | None:
        while not self._arrived:
            self._waiting = self._loop.create_future()
            await self._waiting
        if self._arrived[0] is None:
            return None
        return self._arrived.popleft()

    def cancel_read(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    async def _carry(self) -> None:
        while self._sent:
            await asyncio.sleep(self._network.delay(self._source, self._sink))
            await self._network.passable(self._source, self._sink)
            self._arrived.append(self._sent.popleft())
            self._wake()
        self._carrier = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Pipe:
    """A stream between an agent and a service, as both ends see it.

    The client's end has the methods of a gRPC call that a session uses.
    """

    def __init__(self, network: Network, client: str, server: str) -> None:
        self._network = network
        self.client, self.server = client, server
        self._up = _Way(network, client, server)
        self._down = _Way(network, server, client)
        self._task: asyncio.Task[None] | None = asyncio.create_task(self._open())
        self._closed = False

    async def _open(self) -> None:
        """The server's side, from the arrival of the connection to its end."""
        network = self._network
        await asyncio.sleep(network.delay(self.client, self.server))
        await network.passable(self.client, self.server)
        serve = network.server(self.server)
        if serve is not None and not self._closed:
            await serve(self._up.read, self._write)
            self._down.send(None)
        else:
            self._down.end()

    async def _write(self, data: bytes) -> None:
        self._down.send(data)

    def snap(self) -> None:
        """Both ends see the end, each when it can."""
        if self in self._network.pipes:
            self._network.pipes.remove(self)
            self._closed = True
            asyncio.create_task(self._end_at_server(self.client, self.server))  # noqa: RUF006
            asyncio.create_task(self._end_at_client(self.server, self.client))  # noqa: RUF006

    async def _end_at_server(self, one: str, other: str) -> None:
        await self._news(one, other)
        if self._task is not None:
            self._task.cancel()

    async def _end_at_client(self, one: str, other: str) -> None:
        await self._news(one, other)
        self._down.end()

    async def _news(self, one: str, other: str) -> None:
        """The end of a stream gets through, or the keepalive runs out."""
        await asyncio.sleep(self._network.delay(one, other))
        try:
            async with asyncio.timeout(GIVE_UP):
                await self._network.passable(one, other)
        except TimeoutError:
            pass

    # The client's end

    async def write(self, data: bytes) -> None:
        if self._closed:
            raise asyncio.InvalidStateError("the call is over")
        self._up.send(data)

    async def read(self) -> Any:
        data = await self._down.read()
        return grpc.aio.EOF if data is None else data

    def cancel(self) -> bool:
        if self not in self._network.pipes:
            return False
        self._network.pipes.remove(self)
        self._closed = True
        self._down.cancel_read()
        asyncio.create_task(self._end_at_server(self.client, self.server))  # noqa: RUF006
        return True
