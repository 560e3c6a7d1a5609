"""How long an agent waits for a service that does not answer, while nothing goes on. Pure.

A service ends the waiting of those whom it hears: for the first nodes after `join_timeout`, for
more nodes after `wait`. Where none is heard, nobody else would end it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

UNLESS_GIVEN = 600.0
"""Seconds, as the rendezvous has it for jobs that say nothing else."""


class Patience:
    """`endpoints` are the service's, none where it is in this process; `times` are those of the
    job's spec that were given, in seconds."""

    def __init__(self, endpoints: Sequence[str], times: Mapping[str, Any]) -> None:
        self._where = ", ".join(endpoints)
        self._join_timeout = float(times.get("join_timeout", UNLESS_GIVEN))
        self._wait = float(times.get("wait", UNLESS_GIVEN))
        self._since: float | None = None
        """When the waiting began that goes on now."""
        self._over = False
        """Whether that was said: it is once."""

    def over(
        self, *, unheard: bool, joins: bool, waits: bool, now: float, refusal: str = ""
    ) -> str:
        """Why this node leaves; empty where it does not, and after it was said.

        `unheard`: no service is; `joins`: there was no generation yet; `waits`: the last one is
        over, and this node was in it; `refusal`: why a service that answers does not take it in.
        """
        if not self._where or not unheard or not (joins or waits):
            self._since = None
            return ""
        if self._since is None:
            self._since = now
        limit, name = (
            (self._join_timeout, "join_timeout") if joins else (self._wait, "elastic.wait")
        )
        if self._over or now - self._since < limit:
            return ""
        self._over = True
        if refusal:
            return (
                f"the rendezvous service at {self._where} refused this node for {limit:g} s "
                f"({name}): {refusal}"
            )
        return f"no rendezvous service at {self._where} took this node in for {limit:g} s ({name})"
