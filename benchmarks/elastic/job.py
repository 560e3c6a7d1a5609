"""The one job that all systems run: model, batch, optimizer and checkpoint interval."""

from __future__ import annotations

from typing import Any

NODES, RANKS_PER_NODE = 2, 2
RANKS = NODES * RANKS_PER_NODE
CHECKPOINT_EVERY = 10
MIRROR_EVERY = 2
"""What a mirror costs is in step_overhead.py; a checkpoint costs more, and all systems have it."""


def job(*, compiled: bool) -> dict[str, Any]:
    """A decoder of a million parameters, in four pieces a step; see docs/job.md for the keys."""
    return {
        "name": "recovery",
        "model": {"preset": "debug"},
        "data": {"seq_len": 64},
        "train": {
            "steps": 1_000_000,
            "pieces": RANKS,
            "microbatches": 1,
            "microbatch_size": 1,
            "clip": 1.0,
        },
        "compile": {"enabled": compiled},
        "checkpoint": {"every": CHECKPOINT_EVERY, "at_end": False, "keep": 2},
        "elastic": {
            "nodes": f"1:{NODES}",
            "nproc_per_node": RANKS_PER_NODE,
            "mirror_every": MIRROR_EVERY,
            "grow_interval": 1,
            "last_call": 60,
        },
    }
