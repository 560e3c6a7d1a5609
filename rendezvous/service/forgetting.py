"""Which ended jobs a service forgets, and when. Pure.

A job that has ended is remembered so that an agent which comes late, or comes again, hears how it
ended and does not begin it anew. That is worth a day, and a bounded number of jobs: those that have
ended must never keep the next one out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

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


class Standing(Enum):
    """Where a job is, as far as forgetting it goes."""

    ENDED = "it has ended"
    LIVE = "it has not ended"
    UNREADABLE = "its record cannot be read"


def sorted_out(
    jobs: Mapping[str, Standing], named: Iterable[str], *, ended: bool, force: bool
) -> tuple[list[str], dict[str, str]]:
    """Which jobs an operator's wish removes, and why it leaves others that it names alone.

    `jobs` are all that there are; `ended` asks for all of them that have; `force` is for those
    named.
    """
    if ended:
        return [run_id for run_id, standing in jobs.items() if standing is Standing.ENDED], {}
    gone: list[str] = []
    kept: dict[str, str] = {}
    for run_id in dict.fromkeys(named):
        match jobs.get(run_id):
            case None:
                kept[run_id] = "there is no such job"
            case Standing.ENDED:
                gone.append(run_id)
            case standing if force:
                gone.append(run_id)
            case Standing.LIVE:
                kept[run_id] = (
                    "it has not ended: stop it first, or say --force (agents that live go on, "
                    "in a new generation)"
                )
            case standing:
                kept[run_id] = f"{standing.value}: --force removes it all the same"
    return gone, kept
