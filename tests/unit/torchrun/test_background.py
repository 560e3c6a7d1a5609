"""torchrun's agent waits for an event loop beside it, which may fail."""

from __future__ import annotations

import asyncio
import threading

import pytest

from rendezvous.torchrun.background import Background


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_a_call_returns_what_its_coroutine_returns() -> None:
    background = Background("rendezvous")
    assert background.call(double(3)) == 6
    background.close()


def test_who_waits_hears_that_the_loop_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for good, neither who waits already nor who comes later."""
    fail = threading.Event()

    def run_forever(_loop: asyncio.AbstractEventLoop) -> None:
        fail.wait()
        raise ZeroDivisionError

    monkeypatch.setattr(asyncio.BaseEventLoop, "run_forever", run_forever)
    background = Background("rendezvous")
    threading.Timer(0.05, fail.set).start()
    with pytest.raises(RuntimeError, match="the event loop has failed"):
        background.call(double(3), timeout=60)
    with pytest.raises(RuntimeError, match="the event loop has failed"):
        background.call(double(3), timeout=60)
    background.close()
