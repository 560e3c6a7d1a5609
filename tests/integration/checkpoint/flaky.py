"""A wire to a server that breaks every third connection amid what the client sends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

CUT_AFTER = 64 << 10
EVERY = 3


@dataclass
class Wire:
    """`cuts` counts the connections that were broken."""

    endpoint: str = ""
    connections: int = 0
    cuts: int = 0


@contextlib.contextmanager
def flaky(target: str) -> Iterator[Wire]:
    """Forward to `target`, an `http://host:port`."""
    wire = Wire()
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()
    ready = threading.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire.connections += 1
        limit = CUT_AFTER if wire.connections % EVERY == 0 else None
        host, _, port = target.removeprefix("http://").rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, back, limit), pump(there, writer, None))

    async def pump(
        source: asyncio.StreamReader, sink: asyncio.StreamWriter, limit: int | None
    ) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                sent += len(data)
                if limit is not None and sent > limit:
                    wire.cuts += 1
                    break
                sink.write(data)
                await sink.drain()
        sink.transport.abort()

    async def serve() -> None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        wire.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await ended.wait()
        server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield wire
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
