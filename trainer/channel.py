"""The local channel between an agent and one of its workers.

A Unix socket pair that the worker inherits (its descriptor's number is in `REMESH_CHANNEL`).
One JSON object a line; a line may carry descriptors (`SCM_RIGHTS`). Either side ignores the
keys it doesn't know.
"""

from __future__ import annotations

import array
import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

CHANNEL_VARIABLE = "REMESH_CHANNEL"
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
            message = json.loads(line)
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
        descriptors: list[int] = []
        size = array.array("i").itemsize
        while True:
            data, ancillary, _flags, _address = self._connection.recvmsg(
                1 << 16, socket.CMSG_SPACE(4 * size)
            )
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    received = array.array("i")
                    received.frombytes(payload[: len(payload) - len(payload) % size])
                    descriptors.extend(received)
            if not data:
                return
            for message in self._buffer.feed(data):
                yield message, descriptors
                descriptors = []


def send_with_descriptors(
    connection: socket.socket, message: Message, descriptors: Sequence[int]
) -> None:
    """The agent's side of a line that carries descriptors. Blocks for at most one line."""
    data = encode(message)
    sent = socket.send_fds(connection, [data], list(descriptors))
    if sent < len(data):
        connection.sendall(data[sent:])
