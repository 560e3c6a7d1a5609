"""Tasks of which none ends unheard.

asyncio lets a task end by an exception while everything else goes on as if it still worked: beats
that nobody sends any more. So what runs beside the main flow says by `failed` what follows from its
failure: the exception is logged with its traceback, and given to `failed`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Failed = Callable[[Exception], object]
"""What follows from a failure. Called in the loop where it happened."""

log = logging.getLogger(__name__)


def awaited(_error: Exception) -> None:
    """For a task whose owner awaits it, and hears its failure so: nothing more follows."""


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
