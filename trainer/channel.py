"""The local channel between an agent and one of its workers.

A Unix socket pair that the worker inherits (its descriptor's number is in `REMESH_CHANNEL`).
One JSON object a line. A line may carry descriptors (`SCM_RIGHTS`), and says how many: what is
read at once may hold several lines, and the kernel does not tell whose they are. Either side
ignores the keys it doesn't know.
"""

from __future__ import annotations

import array
import json
import os
import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from trainer.outside.document import loads

CHANNEL_VARIABLE = "REMESH_CHANNEL"
REHEARSAL_VARIABLE = "REMESH_REHEARSE"
"""`SLOTS:PATH`, the node's slots and the job file, where blocks are compiled ahead of time."""
DESCRIPTORS = "descriptors"
MAX_LINE_BYTES = 16 << 20

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """One line; `message["type"]` names what it is."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class LineBuffer:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Message]:
        """Raises ValueError for a line that is no JSON object or is longer than MAX_LINE_BYTES."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise ValueError(f"a channel line is longer than {MAX_LINE_BYTES} bytes")
        for line in lines:
            message = loads(line)
            if not isinstance(message, dict):
                raise ValueError("a channel line is not a JSON object")
            yield message


class WorkerEnd:
    """The worker's end: blocking reads by one thread, writes by any."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = LineBuffer()
        self._sending = threading.Lock()

    @classmethod
    def from_environment(cls) -> WorkerEnd:
        """Take the inherited socket. Raises KeyError when no agent started this process."""
        return cls(socket.socket(fileno=int(os.environ.pop(CHANNEL_VARIABLE))))

    def send(self, message: Message) -> None:
        """Raises OSError when the agent is gone."""
        with self._sending:
            self._connection.sendall(encode(message))

    def receive(self) -> Iterator[tuple[Message, list[int]]]:
        """Yield messages, each with the descriptors that came with it, until the agent is gone."""
        waiting: list[int] = []
        size = array.array("i").itemsize
        while True:
            data, ancillary, _flags, _address = self._connection.recvmsg(
                1 << 16, socket.CMSG_SPACE(4 * size)
            )
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    received = array.array("i")
                    received.frombytes(payload[: len(payload) - len(payload) % size])
                    waiting.extend(received)
            if not data:
                return
            for message in self._buffer.feed(data):
                count = message.get(DESCRIPTORS, 0)
                yield message, waiting[:count]
                del waiting[:count]


class Outbox:
    """The agent's end: lines on their way to a worker that may not be reading just now.

    On a connection that does not block, `put` and `flush` don't either.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines: deque[tuple[memoryview, list[int]]] = deque()

    def put(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Add a line; its descriptors may be closed afterwards."""
        data = encode({**message, DESCRIPTORS: len(descriptors)})
        self._lines.append((memoryview(data), [os.dup(descriptor) for descriptor in descriptors]))

    def flush(self) -> bool:
        """Send what can be sent; True when nothing is left. Raises OSError: the worker is gone."""
        while self._lines:
            data, descriptors = self._lines[0]
            try:
                sent = socket.send_fds(self._connection, [data], descriptors)
            except BlockingIOError:
                return False
            _close(descriptors)
            self._lines[0] = data[sent:], []
            if sent == len(data):
                self._lines.popleft()
        return True

    def close(self) -> None:
        """Forget what was not sent. The connection stays."""
        for _, descriptors in self._lines:
            _close(descriptors)
        self._lines.clear()


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
