"""Lines and descriptors between an agent and a worker, over a real socket pair."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from trainer.channel import Outbox, WorkerEnd


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    agent, worker = socket.socketpair()
    agent.setblocking(False)
    with agent, worker:
        yield agent, worker


def opened() -> tuple[int, int]:
    """A descriptor, and what tells its file from all others."""
    descriptor = os.memfd_create("test")
    return descriptor, os.fstat(descriptor).st_ino


def test_a_descriptor_comes_with_its_own_line(ends: tuple[socket.socket, socket.socket]) -> None:
    """Lines that wait together are read at once, whoever of them carries something."""
    agent, worker = ends
    outbox = Outbox(agent)
    first, first_file = opened()
    second, second_file = opened()
    outbox.put({"type": "interrupt"})
    outbox.put({"type": "enter", "generation": 4}, [first])
    outbox.put({"type": "interrupt"})
    outbox.put({"type": "enter", "generation": 5}, [second])
    for descriptor in (first, second):
        os.close(descriptor)
    assert outbox.flush()
    agent.shutdown(socket.SHUT_WR)
    heard = list(WorkerEnd(worker).receive())
    files = [[os.fstat(descriptor).st_ino for descriptor in came] for _, came in heard]
    assert files == [[], [first_file], [], [second_file]]
    for _, came in heard:
        for descriptor in came:
            os.close(descriptor)


def test_a_line_longer_than_the_socket_takes_arrives_whole(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    agent, worker = ends
    outbox = Outbox(agent)
    members = [[f"node-{number}", 8, "10.0.0.1"] for number in range(40_000)]
    carried, file = opened()
    outbox.put({"type": "enter", "members": members}, [carried])
    os.close(carried)
    outbox.put({"type": "exit"})
    assert not outbox.flush()
    heard: list[Any] = []
    reader = threading.Thread(target=lambda: heard.extend(WorkerEnd(worker).receive()))
    reader.start()
    while not outbox.flush():
        select.select([], [agent], [])
    agent.shutdown(socket.SHUT_WR)
    reader.join()
    (enter, (came,)), (leave, none) = heard
    assert enter["members"] == members
    assert os.fstat(came).st_ino == file
    os.close(came)
    assert (leave["type"], none) == ("exit", [])


def test_what_was_not_sent_holds_nothing_open(ends: tuple[socket.socket, socket.socket]) -> None:
    agent, _worker = ends
    outbox = Outbox(agent)
    reading, writing = os.pipe()
    outbox.put({"type": "enter", "filler": "x" * (8 << 20)})
    outbox.put({"type": "enter"}, [writing])
    os.close(writing)
    assert not outbox.flush()
    outbox.close()
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_a_worker_that_is_gone_is_an_error(ends: tuple[socket.socket, socket.socket]) -> None:
    agent, worker = ends
    worker.close()
    outbox = Outbox(agent)
    outbox.put({"type": "exit"})
    with pytest.raises(OSError):
        outbox.flush()
