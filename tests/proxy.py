"""A wire between a client and a server, to be cut."""

from __future__ import annotations

import asyncio
from typing import Self


class Proxy:
    """Listens on a port of its own and forwards to `target` (host:port) while `open`.

    `cut` ends every connection and refuses new ones; `freeze` keeps them and forwards nothing, as
    a partition does; `heal` undoes both.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._flows: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._flows, return_exceptions=True)

    def cut(self) -> None:
        self._refusing = True
        self._end()

    def freeze(self) -> None:
        self._flowing.clear()

    def heal(self) -> None:
        """What was frozen is lost: a healed network resets connections that were given up."""
        if not self._flowing.is_set():
            self._end()
        self._refusing = False
        self._flowing.set()

    def _end(self) -> None:
        for flow in self._flows:
            flow.cancel()
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self._refusing:
            writer.transport.abort()
            return
        await self._flowing.wait()
        host, _, port = self._target.rpartition(":")
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(back)
        for source, sink in ((reader, back), (there, writer)):
            flow = asyncio.create_task(self._forward(source, sink))
            self._flows.add(flow)
            flow.add_done_callback(self._flows.discard)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.transport.abort()
