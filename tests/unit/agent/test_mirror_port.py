"""The port for mirrors stays open whatever happens, and costs little before a secret is told."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from trainer.agent import mirrors, reception
from trainer.agent.greeting import MAX_GREETING_BYTES, NONCE_BYTES, GenerationKey, Greeting
from trainer.agent.mirrors import MirrorServer, send_mirror
from trainer.checkpoint.staging import FORMAT, Slots

KEY = GenerationKey(7, b"secret")
OPTIONS = {"key": "mine"}
PATIENCE = 30.0


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[], MirrorServer]]:
    begun: list[MirrorServer] = []

    def make() -> MirrorServer:
        begun.append(MirrorServer(tmp_path / "theirs", "127.0.0.1", OPTIONS))
        begun[-1].know(KEY)
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
        "options": {"secret": "a stranger might read this"},
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
    monkeypatch.setattr(reception, "PAUSE_SECONDS", 0.01)
    assert send_mirror(staged, "a-own-0", begin().endpoint, KEY) == 100
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
    monkeypatch.setattr(reception, "GREETING_SECONDS", 0.2)
    with connect(begin()) as stranger:
        assert hung_up(stranger)


def test_strangers_are_few_at_once_and_keep_nobody_out(
    begin: Callable[[], MirrorServer], staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has been silent for longest goes first; all together cost no thread."""
    monkeypatch.setattr(reception, "MAX_STRANGERS", 2)
    server = begin()
    threads = set(threading.enumerate())
    with connect(server) as first, connect(server) as second, connect(server) as third:
        for stranger in (second, third):
            assert stranger.recv(NONCE_BYTES)
        assert hung_up(first)
        assert set(threading.enumerate()) <= threads
        assert send_mirror(staged, "a-own-0", server.endpoint, KEY) == 100
        assert hung_up(second)


def test_members_are_few_at_once(
    begin: Callable[[], MirrorServer], staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "MAX_CONNECTIONS", 1)
    server = begin()
    with connect(server) as member:
        nonce = member.recv(NONCE_BYTES)
        greeting = Greeting(name="a-own-0", generation=7, size=10, checksum="")
        member.sendall(greeting.signed(KEY, nonce))
        refused = False
        while not refused:  # as soon as the first one is let in
            try:
                send_mirror(staged, "b-own-0", server.endpoint, KEY)
            except OSError:
                refused = True


def test_a_generation_that_is_not_known_yet_is_waited_for(
    begin: Callable[[], MirrorServer], staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. One generation's secret is no other's. 2. A sender is told of the next one first."""
    monkeypatch.setattr(reception, "GREETING_SECONDS", PATIENCE)
    server = begin()
    ahead = GenerationKey(8, b"the next")
    for wrong in (GenerationKey(7, b"the next"), GenerationKey(6, KEY.secret)):
        with pytest.raises(OSError, match=r".*"):
            send_mirror(staged, "a-own-0", server.endpoint, wrong)
    with connect(server) as sender:
        nonce = sender.recv(NONCE_BYTES)
        greeting = Greeting(name="a-own-0", generation=8, size=0, checksum="not that of nothing")
        sender.sendall(greeting.signed(ahead, nonce))
        sender.settimeout(0.5)
        with pytest.raises(TimeoutError):
            sender.recv(1)
        server.know(ahead)
        sender.settimeout(PATIENCE)
        assert hung_up(sender)
    assert send_mirror(staged, "a-own-0", server.endpoint, ahead) == 100
    assert send_mirror(staged, "a-own-0", server.endpoint, KEY) == 100
    server.know(GenerationKey(9, b"the one after"))
    with pytest.raises(OSError, match=r".*"):
        send_mirror(staged, "a-own-0", server.endpoint, KEY)


def test_no_storage_options_go_over_the_wire(
    begin: Callable[[], MirrorServer], staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are keys among them; the receiver has its own, which are the same."""
    sent = []
    sendall = socket.socket.sendall

    def tapped(connection: socket.socket, data: bytes) -> None:
        sent.append(bytes(data))
        sendall(connection, data)

    monkeypatch.setattr(socket.socket, "sendall", tapped)
    assert send_mirror(staged, "a-own-0", begin().endpoint, KEY) == 100
    assert b"held_bytes" in b"".join(sent)
    assert b"a stranger might read this" not in b"".join(sent)
    (kept,) = (tmp_path / "theirs" / "from-a-own-0").glob("*.json")
    assert json.loads(kept.read_bytes())["options"] == OPTIONS


def test_it_ends_when_it_is_closed(begin: Callable[[], MirrorServer]) -> None:
    """Its thread would else wait on a number that another socket has by then."""
    before = set(threading.enumerate())
    server = begin()
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["mirrors"]
    server.close()
    assert set(threading.enumerate()) <= before
