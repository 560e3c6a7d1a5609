"""An event loop in a thread of its own, for torchrun's agent knows nothing of asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from rendezvous.supervision import start_thread

T = TypeVar("T")


class Background:
    """The thread does not keep the process alive."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._calls: dict[Future[Any], Coroutine[Any, Any, Any]] = {}
        """Those whose results are waited for."""
        self._failure: Exception | None = None
        """What has ended the loop before its time."""
        self._thread = start_thread(self._run, name=name, failed=self._failed)

    def call(self, coroutine: Coroutine[Any, Any, T], *, timeout: float | None = None) -> T:
        """Run it there and wait here. Whatever interrupts the waiting cancels it.

        Raises RuntimeError where the loop has failed.
        """
        with self._lock:
            if self._failure is not None:
                coroutine.close()
                raise RuntimeError("the event loop has failed") from self._failure
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._calls[future] = coroutine
        try:
            return future.result(timeout)
        except CancelledError:
            if self._failure is None:
                raise
            raise RuntimeError("the event loop has failed") from self._failure
        finally:
            self._calls.pop(future, None)
            future.cancel()

    def close(self) -> None:
        if self._failure is None:
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self._failure = error
            calls = list(self._calls.items())
        for future, coroutine in calls:
            future.cancel()
            coroutine.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()
