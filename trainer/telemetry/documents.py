"""What the files of a run directory may say: the type and the bounds of every key that is read.

A run directory is on a disk that fills up, on a file system that is shared, and people edit it. So
what is read of it is looked at here first, once. What is missing is as in a run of old.
"""

from __future__ import annotations

from typing import Any

from trainer.outside import shapes as k

MEETING = k.Shape({"endpoints": k.endpoints, "files": k.files})
HEAD = k.Shape(
    {
        "run_id": k.run_id,
        "state": k.word,
        "generation": k.count,
        "reason": k.text,
        "rendezvous": k.inside(MEETING),
        "world_size": k.count,
        "restarts": k.count,
        "mesh": k.mesh,
        "step": k.count,
        "total_steps": k.count,
        "loss": k.real,
        "lost_steps": k.count,
        "began": k.moment,
        "time": k.moment,
        "earlier_seconds": k.seconds,
        "wall_seconds": k.seconds,
        "good_seconds": k.seconds,
        "stood_still_seconds": k.seconds,
        "seen_still_seconds": k.seconds,
    }
)
"""status.json, without the agents' parts that are shown in it."""
WORKER = k.Shape(
    {"rank": k.count, "local_rank": k.count, "pid": k.count, "state": k.word, "generation": k.count}
)
END = k.Shape(
    {
        "generation": k.count,
        "status": k.word,
        "reason": k.text,
        "code": k.any_whole,
        "whole": k.flag,
        "gone": k.flag,
    },
    frozenset({"generation", "status", "reason", "code", "whole", "gone"}),
)
"""How a node's part in a generation ended."""
PART = k.Shape(
    {
        "pid": k.count,
        "host": k.word,
        "state": k.word,
        "generation": k.count,
        "time": k.moment,
        "end": k.inside(END),
        "workers": k.each(WORKER),
    }
)
"""agents/NODE.json."""
SUMMARY = k.Shape(
    {
        "run_id": k.run_id,
        "status": k.word,
        "reason": k.text,
        "steps": k.count,
        "final_loss": k.real,
        "weights_sha256": k.word,
        "generations": k.count,
        "restarts": k.count,
        "lost_steps": k.count,
        "skipped_steps": k.count,
        "rollbacks": k.count,
        "tokens_per_second": k.real,
        "goodput": k.real,
        "wall_seconds": k.seconds,
        "good_seconds": k.seconds,
        "stood_still_seconds": k.seconds,
        "other_seconds": k.seconds,
    }
)
START = k.Shape(
    {"arguments": k.words, "endpoints": k.endpoints, "directory": k.word, "logs": k.word}
)
"""start.json."""
METRIC = k.Shape(
    {
        "step": k.count,
        "loss": k.real,
        "grad_norm": k.real,
        "lr": k.real,
        "tokens": k.count,
        "step_seconds": k.seconds,
        "cpu_seconds": k.seconds,
        "waited_seconds": k.seconds,
        "stood_still": k.seconds,
        "generation": k.count,
        "world_size": k.count,
        "time": k.moment,
    },
    frozenset({"step"}),
)
"""A line of metrics.jsonl."""
EVENT = k.Shape(
    {
        "time": k.moment,
        "event": k.word,
        "generation": k.count,
        "node": k.node,
        "rank": k.any_whole,
        "world_size": k.count,
        "nodes": k.words,
        "version": k.any_whole,
        "step": k.any_whole,
        "source": k.word,
        "error": k.long_text,
        "run_id": k.run_id,
    },
    frozenset({"event"}),
)
"""A line of events.jsonl."""
NEEDED = {
    "generation.begin": ("generation",),
    "state.restored": ("generation", "version"),
    "state.rolled_back": ("step", "version"),
}
"""Of some events a key without which they say nothing."""


def checked_event(value: object, where: str) -> dict[str, Any]:
    """Raises ValueError as `checked` does."""
    event = k.checked(value, EVENT, where)
    for key in NEEDED.get(event["event"], ()):
        if event.get(key) is None:
            raise ValueError(f"{where}: {key} is missing")
    return event
