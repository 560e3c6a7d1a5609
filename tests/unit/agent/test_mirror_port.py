"""The port for mirrors stays open whatever happens, and costs little before a secret is told."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from trainer.agent import mirrors
from trainer.agent.mirrors import MAX_GREETING_BYTES, NONCE_BYTES, MirrorServer, send_mirror
from trainer.checkpoint.staging import FORMAT, Slots

SECRET = b"job"
PATIENCE = 30.0


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[], MirrorServer]]:
    begun: list[MirrorServer] = []

    def make() -> MirrorServer:
        begun.append(MirrorServer(tmp_path / "theirs", "127.0.0.1", SECRET))
        return begun[-1]

    yield make
    for server in begun:
        server.close()


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    slot = Slots(tmp_path / "own").free()
    assert slot is not None
    slot.memory(100)[:100] = np.arange(100, dtype=np.uint8)
    attempt = "v00000001-g00001-0000000a"
    described = {
        "format": FORMAT,
        "version": 1,
        "attempt": attempt,
        "path": f"data/{attempt}/00000.safetensors",
        "held_bytes": 100,
        "slot": str(slot.path),
    }
    return slot.publish(described, pending=False)


def connect(server: MirrorServer) -> socket.socket:
    host, _, port = server.endpoint.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def hung_up(connection: socket.socket) -> bool:
    """Whether the other end has closed it, and not the time run out."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionError:
        return True
    return True


def test_a_process_without_a_free_descriptor_takes_mirrors_in_once_there_is_one(
    begin: Callable[[], MirrorServer], staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, refusals = socket.socket.accept, [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED]

    def refuse(listener: socket.socket) -> tuple[socket.socket, object]:
        if refusals:
            number = refusals.pop()
            raise OSError(number, os.strerror(number))
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", refuse)
    monkeypatch.setattr(mirrors, "TIMEOUT", PATIENCE)
    monkeypatch.setattr(mirrors, "PAUSE_SECONDS", 0.01)
    assert send_mirror(staged, "a-own-0", begin().endpoint, SECRET) == 100
    assert refusals == []


def test_a_stranger_can_not_fill_the_memory(begin: Callable[[], MirrorServer]) -> None:
    with connect(begin()) as stranger:
        assert len(stranger.recv(NONCE_BYTES)) == NONCE_BYTES
        with contextlib.suppress(ConnectionError):
            stranger.sendall(b"a" * (4 * MAX_GREETING_BYTES))
        assert hung_up(stranger)


def test_a_stranger_can_not_stay(
    begin: Callable[[], MirrorServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in silence, and not by one byte now and then either."""
    monkeypatch.setattr(mirrors, "GREETING_SECONDS", 0.2)
    with connect(begin()) as stranger:
        assert hung_up(stranger)


def test_strangers_are_few_at_once(
    begin: Callable[[], MirrorServer], staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "MAX_CONNECTIONS", 2)
    server = begin()
    with connect(server) as first, connect(server) as second:
        assert first.recv(NONCE_BYTES)
        assert second.recv(NONCE_BYTES)
        with connect(server) as third:
            assert third.recv(NONCE_BYTES) == b""
        with pytest.raises(OSError, match=r".*"):
            send_mirror(staged, "a-own-0", server.endpoint, SECRET)
    sent = False
    while not sent:  # as soon as the server has seen that they are gone
        with contextlib.suppress(OSError):
            sent = send_mirror(staged, "a-own-0", server.endpoint, SECRET) == 100


def test_it_ends_when_it_is_closed(begin: Callable[[], MirrorServer]) -> None:
    """Its thread would else wait on a number that another socket has by then."""
    before = set(threading.enumerate())
    server = begin()
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["mirrors"]
    server.close()
    assert set(threading.enumerate()) <= before
