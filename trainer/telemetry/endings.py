"""How each node's part in a run ended, as its agent has left word in the run directory.

Where no rendezvous service is there to say it, this is how an agent learns that the run is over: of
one that waits for its next generation, of a spare, and of one whose script has ended while others
may still run. Agents that share no filesystem learn nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainer.names import NODE
from trainer.outside.shapes import fits
from trainer.telemetry.directory import RunDirectory
from trainer.telemetry.documents import END
from trainer.telemetry.files import read_json

ENDED_WELL = ("completed", "stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEnd:
    """How a node's part in a generation ended.

    `status` is completed, stopped, drained or failed, `code` the exit code of its agent. `whole`:
    the run is over for everybody. `gone`: so is the agent, else it waits for the others.
    """

    generation: int
    status: str
    reason: str
    code: int
    whole: bool
    gone: bool

    def to_json(self) -> dict[str, Any]:
        """As it stands in the agent's part of the status."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> NodeEnd | None:
        """None for what no agent has written."""
        if not fits(value, END):
            return None
        assert isinstance(value, dict)
        return cls(**{key: value[key] for key in END.kinds})


def read_ends(directory: RunDirectory) -> dict[str, NodeEnd]:
    """By node, of all that have ended and said so. Blocks."""
    ends = {}
    for path in directory.agents.glob("*.json"):
        end = NodeEnd.from_json((read_json(path) or {}).get("end"))
        if end is not None and NODE.fits(path.stem):
            ends[path.stem] = end
    return ends


def run_end(ends: Mapping[str, NodeEnd], members: Sequence[str], since: int) -> NodeEnd | None:
    """How the run ended for everybody; None where that is not known. Pure.

    `members` are those of generation `since`; what was said in an earlier one is of an earlier
    start, or was overtaken.
    """
    known = {node: end for node, end in sorted(ends.items()) if end.generation >= since}
    if whole := [end for end in known.values() if end.whole]:
        return max(whole, key=lambda end: end.generation)
    mine = [end for node in members if (end := known.get(node)) and end.generation == since]
    if not members or len(mine) < len(members) or any(e.status not in ENDED_WELL for e in mine):
        return None
    stopped = any(end.status == "stopped" for end in mine)
    return NodeEnd(
        generation=since,
        status="stopped" if stopped else "completed",
        reason=f"all {len(mine)} nodes have ended well",
        code=0,
        whole=True,
        gone=False,
    )


def writes_summary(first: NodeEnd | None, *, is_first: bool, waits: bool, written: bool) -> bool:
    """Whether a node that knows how the run ended is the one to write that down. Pure.

    The first node of the generation is, and its own end `first` says whether it will. Another
    one does it where that one has gone without knowing, and where it `waits` for a generation, as
    then the first one may be lost; `written`: unless it was done.
    """
    if is_first:
        return True
    if written or (first is not None and first.whole):
        return False
    return waits or (first is not None and first.gone)
