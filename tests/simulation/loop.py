"""An event loop in which time passes only when nobody has anything left to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any


class _NoNetwork(selectors.BaseSelector):
    """Waits by moving the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = selectors.SelectorKey(fileobj, number, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for something that will never happen"
        self.now += max(0.0, timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Deterministic: tasks run in the order in which they became ready, timers in that of time."""

    def __init__(self) -> None:
        self._simulated = _NoNetwork()
        super().__init__(self._simulated)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._simulated.now

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        # A time that lies in the past by rounding must still let other tasks run first.
        return super().call_at(max(when, self.time()), callback, *args, context=context)
