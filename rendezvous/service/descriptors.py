"""How many agents this process has open files for."""

from __future__ import annotations

import resource

RESERVED = 64
"""For all but agents: operators, the store, metrics, logs, and who has yet to join."""


def room_for_streams(most: int) -> int:
    """Raise the limit on open files as far as it goes; at most so many agents, each with one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, most + RESERVED) if hard == resource.RLIM_INFINITY else hard
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(1, min(most, wanted - RESERVED))
