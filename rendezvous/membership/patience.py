"""Time as the machine sees it: whom it misses, and how long it was away itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

TINY = 1e-6
"""Seconds that rounding may take from a time that is handed to and fro between two clocks."""

LATE = 0.1
"""The machine was away if it was called later than it asked for by this part of the beat
timeout."""

SECOND_CHANCE = 0.5
"""So long, as a part of the beat timeout, everybody may then take to be heard."""

CHANCES = 3
"""How often in a row: there is another only when a beat timeout has gone by without."""


class Missed:
    """Nodes in the order in which they were last heard of: who is first is missed first.

    One queue has one patience for all its nodes, so that hearing of one costs the same however
    many there are.
    """

    def __init__(self) -> None:
        self._since: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, node: str) -> bool:
        return node in self._since

    def __iter__(self) -> Iterator[str]:
        return iter(self._since)

    def hear(self, node: str, now: float) -> None:
        self._since[node] = now
        self._since.move_to_end(node)

    def since(self, node: str) -> float | None:
        return self._since.get(node)

    def forget(self, node: str) -> None:
        self._since.pop(node, None)

    def clear(self) -> None:
        self._since.clear()

    def deadline(self, patience: float) -> float | None:
        """When the patience with the first node runs out."""
        for since in self._since.values():
            return since + patience
        return None

    def overdue(self, now: float, patience: float) -> list[str]:
        """Those with whom the patience has run out; they stay in the queue."""
        nodes: list[str] = []
        for node, since in self._since.items():
            if since + patience > now + TINY:
                break
            nodes.append(node)
        return nodes


class Clock:
    """Counts the time in which the machine could have heard of something.

    A service that was paused, starved or moved in time by its operating system has heard nobody;
    that proves nothing about the nodes. So a call that comes much later than asked for counts as
    one that came in time, and `silence` (the time before which nobody may be called silent) moves
    on a little, until what lies in the sockets has been read.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.silence = 0.0
        self._outside: float | None = None
        self._chances = CHANCES
        self._chance_given = 0.0

    def advance(self, outside: float, wake: float | None, beat_timeout: float) -> None:
        """`wake` is what was asked for in the time of this clock, None for nothing."""
        passed = 0.0 if self._outside is None else max(0.0, outside - self._outside)
        self._outside = outside
        if wake is None or self.now + passed <= wake + LATE * beat_timeout:
            self.now += passed
            return
        self.now = max(self.now, wake)
        if self.now >= self._chance_given + beat_timeout:
            self._chances = CHANCES
        # Always a little late must not mean that nobody is ever missed.
        if self._chances:
            self._chances -= 1
            self._chance_given = self.now
            self.silence = self.now + SECOND_CHANCE * beat_timeout

    def outside(self, inside: float) -> float:
        """When, by the caller's clock, it will be `inside` by this one."""
        return inside - self.now + (0.0 if self._outside is None else self._outside)
