"""The processes of a node that wait for a place. Pure: they are known by the agent's numbers."""

from __future__ import annotations

from collections.abc import Iterator


class Standbys:
    """In the order in which they were started; a ready one has imported all that it needs."""

    def __init__(self) -> None:
        self._ready: dict[int, bool] = {}

    def __len__(self) -> int:
        return len(self._ready)

    def __iter__(self) -> Iterator[int]:
        return iter(self._ready)

    def started(self, process: int) -> None:
        self._ready[process] = False

    def said_hello(self, process: int) -> None:
        if process in self._ready:
            self._ready[process] = True

    def ended(self, process: int) -> bool:
        """Whether it was one of them."""
        return self._ready.pop(process, None) is not None

    def take(self) -> tuple[int, bool] | None:
        """The one that is the farthest, and whether it is ready; None when there is none."""
        if not self._ready:
            return None
        process = max(self._ready, key=lambda number: self._ready[number])
        return process, self._ready.pop(process)
