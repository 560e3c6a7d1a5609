"""Copies of staged state between agents: one listens, the other sends, memory to memory.

A transfer is one connection. The receiver sends a nonce; the sender answers with one short line of
JSON (who it is, the length and checksum of the description that follows, and a digest over all of
it and the nonce, keyed by the job's secret), then the description, the slot's bytes, and, if the
slot is still the same then, that it is whole; the receiver shows the slot and says `ok`.

Whoever does not know the secret gets no more of the receiver than that line's few bytes, for a few
seconds, on one of a bounded number of connections.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import json
import logging
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any

from trainer.checkpoint.staging import Slots, check_names, read_description, staged_bytes
from trainer.errors import CheckpointDamaged, CheckpointError
from trainer.names import MIRROR, named
from trainer.outside.document import loads
from trainer.outside.echo import shown
from trainer.supervision import logged, start_thread

log = logging.getLogger(__name__)

NONCE_BYTES = 16
MAX_GREETING_BYTES = 4096
"""The first line: a node's name has 253 characters at most, and the rest is of fixed length."""
MAX_DESCRIPTION_BYTES = 64 << 20
MAX_SLOT_BYTES = 1 << 44
MAX_CONNECTIONS = 64
"""At once; an agent sends four mirrors at most, and few agents send to the same one."""
GREETING_SECONDS = 5.0
"""For the first line, which an agent has ready before it connects."""
TIMEOUT = 30.0
"""Seconds without a byte, of a sender that knows the secret."""
PAUSE_SECONDS = 0.2
"""To the next try where no connection could be taken: this process has no descriptor left."""
WHOLE = b"whole\n"


class MirrorServer:
    """Takes in other nodes' mirrors, below `directory`, in threads of its own."""

    def __init__(self, directory: Path, host: str, secret: bytes) -> None:
        """Raises OSError when no port can be opened on `host`."""
        self._directory = directory
        self._secret = secret
        self._lock = threading.Lock()
        self._slots: dict[str, tuple[Slots, threading.Lock]] = {}
        self._listener = socket.create_server((host, 0), backlog=64)
        self.endpoint = f"{host}:{self._listener.getsockname()[1]}"
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        """Of the connections that may be open at once."""
        self._closed = threading.Event()
        self._thread = start_thread(self._accept, name="mirrors", failed=logged)

    def close(self) -> None:
        """Take no new connection any more."""
        self._closed.set()
        # To close it alone would leave the thread in `accept`, on a number that others get next.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        told = ""
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                # It may be that no descriptor is free; who calls waits for that, and so do we.
                if not self._closed.is_set() and str(error) != told:
                    told = str(error)
                    log.warning("the port for mirrors takes nobody in for now: %s", error)
                self._closed.wait(PAUSE_SECONDS)
                continue
            told = ""
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        if not self._free.acquire(blocking=False):
            log.warning("more than %d mirrors at once: one is refused", MAX_CONNECTIONS)
            connection.close()
            return
        try:
            start_thread(self._serve, connection, name="a mirror", failed=logged)
        except RuntimeError as error:
            log.warning("a mirror could not be taken in: %s", error)
            self._free.release()
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._receive(connection)
                connection.sendall(b"ok\n")
        except (OSError, ValueError, KeyError, TypeError, CheckpointError) as error:
            log.warning("a mirror could not be taken in: %s", error)
        finally:
            self._free.release()

    def _receive(self, connection: socket.socket) -> None:
        nonce = secrets.token_bytes(NONCE_BYTES)
        connection.settimeout(GREETING_SECONDS)
        connection.sendall(nonce)
        greeting = loads(_line(connection, time.monotonic() + GREETING_SECONDS))
        name, size, checksum = str(greeting["name"]), greeting["size"], str(greeting["checksum"])
        digest = _digest(self._secret, nonce, name, size, checksum)
        if not hmac.compare_digest(digest.encode(), str(greeting["digest"]).encode()):
            raise ValueError("the sender does not know the job's secret")
        connection.settimeout(TIMEOUT)
        named(MIRROR, name)
        if not isinstance(size, int) or not 0 <= size <= MAX_DESCRIPTION_BYTES:
            raise ValueError(f"a description of {shown(size)} bytes is refused")
        with connection.makefile("rb") as stream:
            text = stream.read(size)
            if hashlib.sha256(text).hexdigest() != checksum:
                raise ValueError("the sender broke off")
            self._take_in(stream, name, loads(text))

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
            slot.publish({**description, "slot": str(slot.path)}, pending=False)

    def _place(self, name: str) -> tuple[Slots, threading.Lock]:
        with self._lock:
            if name not in self._slots:
                self._slots[name] = Slots(self._directory / f"from-{name}"), threading.Lock()
            return self._slots[name]


def send_mirror(path: Path, name: str, endpoint: str, secret: bytes) -> int:
    """Send the slot that `path` describes; blocks. Returns its bytes.

    Raises OSError when the receiver can't be reached or refuses, CheckpointDamaged or
    FileNotFoundError when the slot has been filled anew meanwhile.
    """
    description = read_description(path)
    data = staged_bytes(description["slot"], description["held_bytes"])
    text = json.dumps(description, separators=(",", ":")).encode()
    checksum = hashlib.sha256(text).hexdigest()
    host, _, port = endpoint.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        nonce = _exactly(connection, NONCE_BYTES)
        greeting = {
            "name": name,
            "size": len(text),
            "checksum": checksum,
            "digest": _digest(secret, nonce, name, len(text), checksum),
        }
        connection.sendall(json.dumps(greeting, separators=(",", ":")).encode() + b"\n")
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


def _line(connection: socket.socket, deadline: float) -> bytes:
    """What comes up to the first newline, which is all there by the deadline and not long.

    Byte by byte: what follows it is for who reads next.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        if len(line) == MAX_GREETING_BYTES or time.monotonic() > deadline:
            raise ValueError("the sender does not say who it is")
        byte = connection.recv(1)
        if not byte:
            raise ConnectionError("the sender broke off")
        line += byte
    return bytes(line)


def _digest(secret: bytes, nonce: bytes, name: str, size: Any, checksum: str) -> str:
    text = json.dumps([name, size, checksum], separators=(",", ":"))
    return hmac.new(secret, nonce + text.encode(), hashlib.sha256).hexdigest()
