"""Which ended jobs a service forgets, and when. Pure.

A job that has ended is remembered so that an agent which comes late, or comes again, hears how it
ended and does not begin it anew. That is worth a day, and a bounded number of jobs: those that have
ended must never keep the next one out.
"""

from __future__ import annotations

from collections.abc import Mapping

KEPT_SECONDS = 86_400.0
MOST_KEPT = 1000
"""Ended jobs that nobody attends any more; the one that ended first goes first."""
AT_ONCE = 64
"""So many are removed from the store in one write: etcd takes 128 operations by default."""


def forgettable(ended: Mapping[str, float], now: float, *, most: int = MOST_KEPT) -> list[str]:
    """The next jobs to forget, oldest first, of those that nobody attends.

    `ended` says since when, as far as this leader knows, in the order in which they were seen.
    """
    order = sorted(ended, key=lambda run_id: ended[run_id])
    too_many = max(0, len(order) - most)
    old = sum(now - since > KEPT_SECONDS for since in ended.values())
    return order[: max(too_many, old)][:AT_ONCE]
