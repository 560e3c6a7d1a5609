"""Whether a user's code has launched collectives since: NCCL doesn't tell when one was cut."""

from __future__ import annotations

import torch.distributed as dist
from torch.distributed import ProcessGroup

Launched = list[tuple[ProcessGroup, int | None]]
"""How many collectives each group had seen; None for one of a backend that doesn't count them."""


def launched() -> Launched:
    """As of now. Sends and receives are not counted."""
    return [(group, _count(group)) for group in list(dist.distributed_c10d._world.pg_map)]


def any_since(before: Launched) -> bool:
    """Whether there may have been any in these groups, which may be gone by now."""
    return any(count is None or _count(group) != count for group, count in before)


def _count(group: ProcessGroup) -> int | None:
    try:
        return int(group._get_sequence_number_for_group())  # type: ignore[attr-defined]
    except RuntimeError:
        return None
