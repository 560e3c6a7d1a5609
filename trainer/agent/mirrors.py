"""Copies of staged state between agents: one listens, the other sends, memory to memory.

A transfer is one connection. The receiver sends a nonce; the sender answers with one short line
(`trainer/agent/greeting.py`) that is signed by the secret of their generation, then the
description, the slot's bytes, and, if the slot is still the same then, that it is whole; the
receiver shows the slot and says `ok`.

Whoever does not know the secret gets no further than the reception (`trainer/agent/reception.py`).
What does go over the wire can be read by whoever sits on it, so the storage options, in which
keys are, are left out: all nodes of a job have the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.address import split_endpoint
from trainer.agent.greeting import NONCE_BYTES, GenerationKey, Greeting
from trainer.agent.reception import Reception
from trainer.checkpoint.staging import Slots, check_names, read_description, staged_bytes
from trainer.errors import CheckpointDamaged, CheckpointError
from trainer.outside.document import loads
from trainer.outside.echo import shown
from trainer.supervision import logged, start_thread

log = logging.getLogger(__name__)

MAX_SLOT_BYTES = 1 << 44
MAX_CONNECTIONS = 64
"""Of members at once; an agent sends four mirrors at most, and few agents send to the same one."""
TIMEOUT = 30.0
"""Seconds without a byte, of a sender that knows the secret."""
WHOLE = b"whole\n"
OPTIONS = "options"
"""Of a description, what is not sent: fsspec's options of the store."""


class MirrorServer:
    """Takes in other nodes' mirrors, below `directory`, in threads of its own."""

    def __init__(self, directory: Path, host: str, options: Mapping[str, Any]) -> None:
        """`options`: the storage options of this node's own job.

        Raises OSError when no port can be opened on `host`.
        """
        self._directory = directory
        self._options = dict(options)
        self._lock = threading.Lock()
        self._slots: dict[str, tuple[Slots, threading.Lock]] = {}
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        """Of the members' connections that may be open at once."""
        self._reception = Reception(host, self._begin)
        self.endpoint = self._reception.endpoint

    def know(self, key: GenerationKey) -> None:
        """A generation has begun: who knows its secret is let in."""
        self._reception.know(key)

    def close(self) -> None:
        """Take no new connection any more."""
        self._reception.close()

    def _begin(self, connection: socket.socket, greeting: Greeting) -> None:
        if not self._free.acquire(blocking=False):
            log.warning("more than %d mirrors at once: one is refused", MAX_CONNECTIONS)
            connection.close()
            return
        try:
            start_thread(self._serve, connection, greeting, name="a mirror", failed=logged)
        except RuntimeError as error:
            log.warning("a mirror could not be taken in: %s", error)
            self._free.release()
            connection.close()

    def _serve(self, connection: socket.socket, greeting: Greeting) -> None:
        try:
            with connection:
                connection.settimeout(TIMEOUT)
                self._receive(connection, greeting)
                connection.sendall(b"ok\n")
        except (OSError, ValueError, KeyError, TypeError, CheckpointError) as error:
            log.warning("a mirror could not be taken in: %s", error)
        finally:
            self._free.release()

    def _receive(self, connection: socket.socket, greeting: Greeting) -> None:
        with connection.makefile("rb") as stream:
            text = stream.read(greeting.size)
            if hashlib.sha256(text).hexdigest() != greeting.checksum:
                raise ValueError("the sender broke off")
            self._take_in(stream, greeting.name, loads(text))

    def _take_in(self, stream: io.BufferedReader, name: str, description: Any) -> None:
        size = int(description["held_bytes"])
        check_names(description, f"the mirror of {name}")
        if not 0 <= size <= MAX_SLOT_BYTES:
            raise ValueError(f"a mirror of {shown(size)} bytes is refused")
        slots, lock = self._place(name)
        with lock:
            slot = slots.free()
            if slot is None:
                raise CheckpointError("no slot is free")
            memory = slot.memory(size)
            view = memory.data[:size]
            while view:
                count = stream.readinto(view)
                if not count:
                    raise ValueError("the sender broke off")
                view = view[count:]
            if stream.read(len(WHOLE)) != WHOLE:
                raise ValueError("the sender took it back")
            here = {"slot": str(slot.path), OPTIONS: self._options}
            slot.publish({**description, **here}, pending=False)

    def _place(self, name: str) -> tuple[Slots, threading.Lock]:
        with self._lock:
            if name not in self._slots:
                self._slots[name] = Slots(self._directory / f"from-{name}"), threading.Lock()
            return self._slots[name]


def send_mirror(path: Path, name: str, endpoint: str, key: GenerationKey) -> int:
    """Send the slot that `path` describes; blocks. Returns its bytes.

    Raises OSError when the receiver can't be reached or refuses, CheckpointDamaged or
    FileNotFoundError when the slot has been filled anew meanwhile.
    """
    description = read_description(path)
    data = staged_bytes(description["slot"], description["held_bytes"])
    sent = {name: value for name, value in description.items() if name != OPTIONS}
    text = json.dumps(sent, separators=(",", ":")).encode()
    greeting = Greeting(
        name=name,
        generation=key.generation,
        size=len(text),
        checksum=hashlib.sha256(text).hexdigest(),
    )
    with socket.create_connection(split_endpoint(endpoint), timeout=TIMEOUT) as connection:
        nonce = _exactly(connection, NONCE_BYTES)
        connection.sendall(greeting.signed(key, nonce))
        connection.sendall(text)
        connection.sendall(data.data)
        # Looked at after the bytes are gone: a slot filled anew would have sent a mixture.
        if read_description(path) != description:
            raise CheckpointDamaged(f"{path} was filled anew while it was being sent")
        connection.sendall(WHOLE)
        if _exactly(connection, 3) != b"ok\n":
            raise ConnectionError(f"{endpoint} did not take the mirror in")
    return int(description["held_bytes"])


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("the other agent hung up")
        data += more
    return data
