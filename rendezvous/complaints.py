"""What is wrong is said at once, and again every minute while it lasts. Pure."""

from __future__ import annotations

AGAIN = 60.0
"""Seconds until the same is said again."""


class Complaints:
    """`now` is of any clock that does not go back."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        """What is being complained of, and when that was last said."""

    def due(self, what: str, now: float) -> bool:
        """Whether to say it now; if so, it counts as said."""
        last = self._said.get(what)
        if last is not None and now - last < AGAIN:
            return False
        self._said[what] = now
        return True

    def over(self, what: str) -> bool:
        """It is well again; whether it had been complained of."""
        return self._said.pop(what, None) is not None
