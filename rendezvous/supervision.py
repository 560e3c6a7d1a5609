"""Threads and tasks of which none ends unheard.

Python lets a thread or a task end by an exception while everything else goes on as if it still
worked: beats that nobody sends any more, a port that nobody listens at. So what runs beside the
main flow says by `failed` what follows from its failure: the exception is logged with its
traceback, and given to `failed`.

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

    def look(ended: asyncio.Task[T]) -> None:
        error = None if ended.cancelled() else ended.exception()
        if isinstance(error, Exception) and failed is not awaited:
            log.error("%s failed", name, exc_info=error)
            failed(error)

    task.add_done_callback(look)
    return task


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

        def run() -> T:
            try:
                return call(*arguments)
            except Exception as error:
                if failed is not awaited:
                    log.exception("%s failed", self._name)
                    failed(error)
                raise

        return self._pool.submit(run)

    def close(self, *, cancel: bool = False) -> None:
        """Return once everything that was begun is done; with `cancel`, begin nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=cancel)


def in_threads(call: Callable[[S], T], items: Iterable[S], *, threads: int) -> list[T]:
    """`call` of each item, by so many threads at once; returns when all are done.

    Raises what the first of them, in the order of the items, has raised.
    """
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, items))
