"""What a worker may say to its agent: the type and the bounds of every key that the agent reads.

A worker may run a loop of the user's own. What it says wrongly ends that worker, never the agent.
"""

from __future__ import annotations

from trainer.channel import Message
from trainer.outside import shapes as k
from trainer.telemetry.documents import METRIC, SUMMARY

_OF_A_GENERATION = frozenset({"generation"})
SHAPES = {
    "hello": k.Shape({"pid": k.count}),
    "entered": k.Shape(
        {
            "generation": k.count,
            "version": k.any_whole,
            "source": k.word,
            "mesh": k.mesh,
            "seconds": k.mapping,
        },
        _OF_A_GENERATION,
    ),
    "step": k.Shape(
        {**METRIC.kinds, "again": k.flag, "skipped": k.text}, frozenset({"generation", "step"})
    ),
    "waiting": k.Shape({"generation": k.count, "on": k.flag}, frozenset({"generation", "on"})),
    "left": k.Shape(
        {
            "generation": k.count,
            "version": k.any_whole,
            "reason": k.text,
            "error": k.long_text,
            "stopped": k.text,
        },
        frozenset({"generation", "version"}),
    ),
    "saved": k.Shape({"generation": k.count, "version": k.any_whole}),
    "staged": k.Shape(
        {"generation": k.count, "version": k.any_whole, "path": k.word}, frozenset({"path"})
    ),
    "part_lost": k.Shape(
        {"version": k.any_whole, "generation": k.count, "rank": k.count, "error": k.long_text},
        frozenset({"version", "generation", "rank", "error"}),
    ),
    "unsaved": k.Shape(
        {
            "version": k.any_whole,
            "generation": k.count,
            "error": k.long_text,
            "url": k.word,
            "options": k.mapping,
        },
        frozenset({"version", "generation", "error", "url", "options"}),
    ),
    "spare": k.Shape({"generation": k.count}, _OF_A_GENERATION),
    "finished": k.Shape(
        {
            "generation": k.count,
            "status": k.word,
            "summary": k.inside(SUMMARY),
            "agreed": k.flag,
        },
        frozenset({"generation", "status"}),
    ),
    "failed": k.Shape(
        {
            "category": k.word,
            "message": k.long_text,
            "traceback": k.long_text,
            "error": k.long_text,
        }
    ),
    "event": k.Shape(
        {"event": k.word, "generation": k.count, "rank": k.any_whole, "notice": k.text}
    ),
}


def heard(message: Message) -> Message:
    """The message. Raises ValueError for one that the agent could not act on."""
    kind = k.checked(message, k.Shape({"type": k.word}, frozenset({"type"})), "a message")["type"]
    shape = SHAPES.get(kind)
    return message if shape is None else k.checked(message, shape, f"a message {kind}")
