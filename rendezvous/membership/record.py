"""What must survive the leader: small, plain, readable in the store.

It changes when the membership does, never with a beat. Times are not in it, because no two
leaders share a clock: a new leader starts its waits anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rendezvous.bounds import MAX_COUNT, MAX_NODES, MAX_SECONDS, MAX_SLOTS
from rendezvous.generation import Generation
from rendezvous.membership.spec import JobSpec
from rendezvous.outside.echo import shown
from rendezvous.outside.fields import Fields
from rendezvous.outside.names import NODE, named

FORMAT = 1
STATUSES = ("completed", "failed", "stopped")
"""How a job can end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """A node that is on its way out."""

    incarnation: int
    grace: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failure of workers, kept as evidence.

    `rank` is global, -1 if no single one is to blame; `step` is -1 outside of steps. `own` is
    whether the job brought it on itself, as far as one failure alone can tell; `counted` is
    whether it was held against the job. `error` is the same for failures that are alike, where
    nobody had done a step and it would come again; else empty.
    """

    step: int
    node: str
    rank: int
    own: bool
    counted: bool
    text: str
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the job ended: completed, failed or stopped.

    `by`: workers (they finished, or failed), nodes (too few of them), or operator.
    """

    status: str
    reason: str
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One job as the store holds it."""

    spec: JobSpec
    generation: Generation | None = None
    """The last one published."""
    active: bool = False
    """Whether that generation still stands; if not, the job waits for nodes."""
    restarts: int = 0
    """Failures so far that count against `max_restarts`."""
    target: int | None = None
    """How many nodes an operator asked for."""
    drains: Mapping[str, Drain] = field(default_factory=dict)
    set_aside: Mapping[str, str] = field(default_factory=dict)
    """Nodes that are not taken in any more, and why."""
    evidence: tuple[Failure, ...] = ()
    """The latest failures, oldest first."""
    ended: Ended | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict."""
        return {
            "format": FORMAT,
            "spec": self.spec.to_dict(),
            "generation": None if self.generation is None else self.generation.to_dict(),
            "active": self.active,
            "restarts": self.restarts,
            "target": self.target,
            "drains": {
                node: {"incarnation": d.incarnation, "grace": d.grace, "reason": d.reason}
                for node, d in self.drains.items()
            },
            "set_aside": dict(self.set_aside),
            "evidence": [asdict(failure) for failure in self.evidence],
            "ended": None if self.ended is None else asdict(self.ended),
        }

    @classmethod
    def from_dict(cls, data: object) -> Record:
        """Reads what `to_dict` wrote; unknown keys are ignored.

        Raises ValueError for what it can't have written, and when the format is a newer one.
        """
        said = Fields(data, "the job's record")
        version = said.whole("format", 1)
        if version > FORMAT:
            raise ValueError(
                f"the job's record has format {version}, this version reads up to {FORMAT}"
            )
        spec = JobSpec.read(said.fields("spec"))
        there = said.has("generation")
        if said.flag("active", default=False) and not there:
            raise ValueError("the job's record: it is active, and has no generation")
        return cls(
            spec=spec,
            generation=Generation.read(said.fields("generation")) if there else None,
            active=said.flag("active", default=False),
            restarts=said.whole("restarts", 0, MAX_COUNT, default=0),
            target=said.whole("target", 1, MAX_NODES) if said.has("target") else None,
            drains={
                named(NODE, node): Drain(
                    incarnation=drain.whole("incarnation"),
                    grace=drain.number("grace", 0, MAX_SECONDS),
                    reason=drain.text("reason"),
                )
                for node, drain in said.under("drains", MAX_NODES).items()
            },
            set_aside={
                named(NODE, node): why for node, why in said.texts("set_aside", MAX_NODES).items()
            },
            evidence=tuple(
                Failure(
                    step=failure.whole("step", -1),
                    node=failure.name("node", NODE),
                    rank=failure.whole("rank", -1, MAX_NODES * MAX_SLOTS),
                    own=failure.flag("own"),
                    counted=failure.flag("counted"),
                    text=failure.text("text"),
                    error=failure.text("error", default=""),
                )
                for failure in said.each("evidence", required=False)
            ),
            ended=_ended(said.fields("ended")) if said.has("ended") else None,
        )


def _ended(said: Fields) -> Ended:
    status = said.text("status")
    if status not in STATUSES:
        raise ValueError(f"{said.where}.status is {shown(status)}; it must be one of {STATUSES}")
    return Ended(status=status, reason=said.text("reason"), by=said.text("by", default=""))
