"""What runs beside the main flow never ends unheard."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from rendezvous import supervision
from rendezvous.supervision import (
    ThreadPool,
    awaited,
    call_later,
    for_good,
    guarded,
    in_threads,
    logged,
    start_task,
    start_thread,
)
from tests.virtual_time import run


class Broken(Exception):
    """What nobody has thought of."""


def fail(text: str = "why") -> None:
    raise Broken(text)


async def fail_later(text: str = "why") -> None:
    await asyncio.sleep(0)
    raise Broken(text)


def test_a_thread_that_fails_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Exception] = []
    start_thread(fail, "text", name="beats", failed=heard.append).join()
    assert [str(error) for error in heard] == ["text"]
    assert "beats failed" in caplog.text
    assert "Broken: text" in caplog.text


def test_a_thread_does_not_keep_the_process_alive() -> None:
    end = threading.Event()
    thread = start_thread(end.wait, name="beats", failed=logged)
    assert thread.daemon
    assert thread.name == "beats"
    end.set()
    thread.join()


async def test_a_task_that_fails_is_heard_though_nobody_awaits_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    task = start_task(fail_later(), name="beats", failed=heard.set_result)
    assert isinstance(await heard, Broken)
    assert "beats failed" in caplog.text
    with pytest.raises(Broken):
        await task


async def test_a_task_that_is_awaited_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Broken):
        await start_task(fail_later(), name="beats", failed=awaited)
    assert caplog.text == ""


async def test_a_task_that_is_cancelled_has_not_failed() -> None:
    heard: list[Exception] = []
    task = start_task(asyncio.sleep(3600), name="beats", failed=heard.append)
    task.cancel()
    await asyncio.wait([task])
    assert heard == []


def test_a_timer_that_fails_is_heard() -> None:
    async def main() -> list[str]:
        heard: list[Exception] = []
        call_later(60, fail, "late", failed=heard.append)
        await asyncio.sleep(61)
        return [str(error) for error in heard]

    assert run(main()) == ["late"]


def test_what_is_called_back_never_raises() -> None:
    heard: list[Exception] = []
    guarded(fail, name="a reader", failed=heard.append)("text")
    assert [str(error) for error in heard] == ["text"]


def test_what_is_to_run_for_good_begins_again() -> None:
    begun = []

    async def body() -> None:
        begun.append(asyncio.get_running_loop().time())
        if len(begun) < 3:
            fail()

    run(for_good(body, name="an election", pause=5))
    assert begun == [0, 5, 10]


def test_a_pool_tells_what_fails_and_its_future_has_it_still() -> None:
    heard: list[Exception] = []
    with ThreadPool(2, name="mirrors") as pool:
        futures = [pool.submit(fail, failed=heard.append), pool.submit(len, "abc", failed=logged)]
    assert isinstance(futures[0].exception(), Broken)
    assert futures[1].result() == 3
    assert len(heard) == 1


def test_calls_in_threads_are_over_when_the_first_fault_is_raised() -> None:
    both, on_its_way = threading.Barrier(2, timeout=60), []

    def call(number: int) -> int:
        both.wait()
        if number == 1:
            fail("the first fault")
        on_its_way.append(number)
        return number * 2

    assert in_threads(call, [0, 2], threads=2) == [0, 4]
    with pytest.raises(Broken, match="the first fault"):
        in_threads(call, [1, 3], threads=2)
    assert sorted(on_its_way) == [0, 2, 3]


def test_no_failure_is_without_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, supervision.__name__):
        guarded(fail, name="a timer", failed=logged)()
    (record,) = caplog.records
    assert record.exc_info is not None
