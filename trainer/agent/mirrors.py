"""Copies of staged state between agents: one listens, the other sends, memory to memory.

A transfer is one connection. The receiver sends a nonce; the sender answers with one line of JSON
(who it is, what comes, and a digest over nonce and description keyed by the job's secret), then
the slot's bytes, and, if the slot is still the same then, that it is whole; the receiver shows the
slot and says `ok`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import socket
import threading
from pathlib import Path
from typing import Any

from trainer.checkpoint.staging import Slots, check_names, read_description, staged_bytes
from trainer.errors import CheckpointDamaged, CheckpointError
from trainer.names import MIRROR, named
from trainer.outside.document import loads
from trainer.outside.echo import shown

log = logging.getLogger(__name__)

NONCE_BYTES = 16
MAX_HEADER_BYTES = 64 << 20
MAX_SLOT_BYTES = 1 << 44
TIMEOUT = 30.0
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
        threading.Thread(target=self._accept, name="mirrors", daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(TIMEOUT)
            try:
                self._receive(connection)
                connection.sendall(b"ok\n")
            except (OSError, ValueError, KeyError, TypeError, CheckpointError) as error:
                log.warning("a mirror could not be taken in: %s", error)

    def _receive(self, connection: socket.socket) -> None:
        nonce = secrets.token_bytes(NONCE_BYTES)
        connection.sendall(nonce)
        with connection.makefile("rb") as stream:
            header = loads(stream.readline(MAX_HEADER_BYTES))
            name, description = str(header["name"]), header["description"]
            digest = _digest(self._secret, nonce, name, description)
            if not hmac.compare_digest(digest, str(header["digest"])):
                raise ValueError("the sender does not know the job's secret")
            size = int(description["held_bytes"])
            named(MIRROR, name)
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
    host, _, port = endpoint.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        nonce = _exactly(connection, NONCE_BYTES)
        header = {
            "name": name,
            "description": description,
            "digest": _digest(secret, nonce, name, description),
        }
        connection.sendall(json.dumps(header, separators=(",", ":")).encode() + b"\n")
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


def _digest(secret: bytes, nonce: bytes, name: str, description: Any) -> str:
    text = json.dumps([name, description], sort_keys=True, separators=(",", ":"))
    return hmac.new(secret, nonce + text.encode(), hashlib.sha256).hexdigest()
