"""Threads, tasks and timers of which none ends unheard.

Python lets a thread, a task or a timer's call end by an exception while everything else goes on as
if it still worked: beats that nobody sends any more, a port that nobody listens at. So whatever
runs beside the main flow is started here, and says by `failed` what follows from its failure: the
exception is logged with its traceback, and given to `failed`. A test holds that nothing else
starts such a thing by itself.

`trainer.supervision` is this file by a link, for the reason in `rendezvous.outside`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
S = TypeVar("S")
Failed = Callable[[Exception], object]
"""What follows from a failure. Called in the thread, or in the loop, where it happened."""

log = logging.getLogger(__name__)


def awaited(_error: Exception) -> None:
    """For a task whose owner awaits it, and hears its failure so: nothing more follows."""


def logged(_error: Exception) -> None:
    """Nothing follows but the words in the log: whoever comes next starts afresh."""


def guarded(call: Callable[..., object], *, name: str, failed: Failed) -> Callable[..., None]:
    """`call` as a callback that never raises: what it raises is logged and given to `failed`.

    For what a loop calls by itself: readers and writers, signals, other threads' words.
    """

    def run(*arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            log.exception("%s failed", name)
            failed(error)

    return run


def start_thread(
    run: Callable[..., object], *arguments: object, name: str, failed: Failed
) -> threading.Thread:
    """Run it in a thread that doesn't keep the process alive."""
    body = guarded(run, name=name, failed=failed)
    thread = threading.Thread(target=body, args=arguments, name=name, daemon=True)
    thread.start()
    return thread


def start_task(coroutine: Coroutine[Any, Any, T], *, name: str, failed: Failed) -> asyncio.Task[T]:
    """Run it beside the others of this loop. To await it still raises what it raised."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    task.add_done_callback(lambda ended: _hear(ended, name, failed))
    return task


def _hear(ended: asyncio.Task[Any] | Future[Any], name: str, failed: Failed) -> None:
    error = None if ended.cancelled() else ended.exception()
    if isinstance(error, Exception) and failed is not awaited:
        log.error("%s failed", name, exc_info=error)
        failed(error)


async def for_good(
    body: Callable[[], Coroutine[Any, Any, object]], *, name: str, pause: float
) -> None:
    """Run what never ends by itself; where it fails, begin it again after `pause` seconds."""
    while True:
        try:
            await body()
            return
        except Exception:
            log.exception("%s failed, and begins again", name)
        await asyncio.sleep(pause)


def call_later(
    seconds: float, call: Callable[..., object], *arguments: object, failed: Failed
) -> asyncio.TimerHandle:
    """As the running loop's `call_later`."""
    loop = asyncio.get_running_loop()
    return call_at(loop.time() + seconds, call, *arguments, failed=failed)


def call_at(
    when: float, call: Callable[..., object], *arguments: object, failed: Failed
) -> asyncio.TimerHandle:
    """As the running loop's `call_at`."""
    body = guarded(call, name=getattr(call, "__qualname__", "a timer"), failed=failed)
    return asyncio.get_running_loop().call_at(when, body, *arguments)


class ThreadPool:
    """A few threads for calls that block. A context, at whose end all that was begun is done."""

    def __init__(self, threads: int, *, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def submit(self, call: Callable[..., T], *arguments: object, failed: Failed) -> Future[T]:
        """Call it in one of the threads. The future still has what it raised."""

        future = self._pool.submit(call, *arguments)
        future.add_done_callback(lambda ended: _hear(ended, self._name, failed))
        return future

    def close(self, *, cancel: bool = False) -> None:
        """Return once everything that was begun is done; with `cancel`, begin nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=cancel)


def in_threads(call: Callable[[S], T], items: Iterable[S], *, threads: int) -> list[T]:
    """`call` of each item, by so many threads at once; returns when nothing is on its way any more.

    Raises what the first of them, in the order of the items, has raised; what has not been begun
    then never is.
    """
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, items))
