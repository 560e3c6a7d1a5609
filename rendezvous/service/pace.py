"""How often a service speaks unasked, and looks after its jobs."""

from __future__ import annotations

SECONDS_PER_STREAM = 0.01
SECONDS_PER_JOB = 0.002
"""A look at a job that has ended takes a service some microseconds."""


def pulse_interval(shortest: float, streams: int) -> float:
    """Seconds between two pulses to one agent: the more agents, the rarer, 100 a second in all."""
    return max(shortest, streams * SECONDS_PER_STREAM)


def look_interval(shortest: float, jobs: int) -> float:
    """Seconds between two looks at all jobs: the more, the rarer, 500 jobs a second in all.

    A thousand may have ended long ago, and nothing that agents wait for depends on these looks.
    """
    return max(shortest, jobs * SECONDS_PER_JOB)
