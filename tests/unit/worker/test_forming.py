"""Groups that are being formed when their generation ends: nobody stays behind in them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from trainer.errors import GenerationOver
from trainer.worker.groups import generation_store
from trainer.worker.interrupt import Interruption

PATIENCE = timedelta(seconds=600)


def is_ended_by_a_strike(form: Callable[[Interruption], object]) -> bool:
    """Form groups, and strike from another thread once that has begun."""
    interruption, begun = Interruption(1), threading.Event()

    def strike() -> None:
        begun.wait()
        interruption.strike("test")

    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    try:
        with interruption.forming_groups():
            begun.set()
            form(interruption)
    except GenerationOver:
        striker.join()
        return True
    return False


def test_a_socket_that_is_opened_after_the_strike_is_cut_too() -> None:
    """The strike finds no socket yet; the one that is dialled next waits for an answer."""

    def dial_late(interruption: Interruption) -> None:
        while interruption.reason is None:
            pass
        with socket.create_connection(silent.getsockname()) as connection:
            assert connection.recv(1) == b""

    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert is_ended_by_a_strike(dial_late)


def test_a_store_that_nobody_serves_any_more_is_given_up() -> None:
    """Whoever served it has died, and its port is closed."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"127.0.0.1:{closed.getsockname()[1]}"
    assert is_ended_by_a_strike(lambda over: generation_store(endpoint, None, PATIENCE, over))


def test_a_store_that_does_not_answer_is_given_up() -> None:
    """Its process has not come to serving it yet, and never will."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"127.0.0.1:{silent.getsockname()[1]}"
        assert is_ended_by_a_strike(lambda over: generation_store(endpoint, None, PATIENCE, over))


def test_a_generation_that_is_over_forms_nothing() -> None:
    interruption = Interruption(1)
    interruption.strike("test")
    with pytest.raises(GenerationOver), interruption.forming_groups():
        raise AssertionError("it was entered")


def test_who_is_struck_reads_no_more_but_cuts_nobody_off_before_all_have_left() -> None:
    """1. a connection is made; 2. the strike ends what its owner reads, who closes it; 3. the
    other end neither hears of that nor fails to write; 4. it does once all have left."""
    interruption = Interruption(1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        with interruption.forming_groups():
            mine = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with theirs:
        theirs.setblocking(False)
        interruption.strike("test")
        assert mine.recv(1) == b""
        mine.close()
        theirs.send(b"still here")
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        interruption.release()
        theirs.settimeout(PATIENCE.total_seconds())
        with pytest.raises(ConnectionResetError):
            theirs.recv(1)
