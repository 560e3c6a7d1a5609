"""How often a service speaks unasked."""

from __future__ import annotations

SECONDS_PER_STREAM = 0.01


def pulse_interval(shortest: float, streams: int) -> float:
    """Seconds between two pulses to one agent: the more agents, the rarer, 100 a second in all."""
    return max(shortest, streams * SECONDS_PER_STREAM)
