"""What must survive the leader: small, plain, readable in the store.

It changes when the membership does, never with a beat. Times are not in it, because no two
leaders share a clock: a new leader starts its waits anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rendezvous.generation import Generation
from rendezvous.membership.spec import JobSpec

FORMAT = 1


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
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """Reads what `to_dict` wrote; unknown keys are ignored.

        Raises ValueError when the format is a newer one than this code knows.
        """
        if data["format"] > FORMAT:
            raise ValueError(
                f"the job's record has format {data['format']}, this version reads up to {FORMAT}"
            )
        generation, ended = data.get("generation"), data.get("ended")
        return cls(
            spec=JobSpec.from_dict(data["spec"]),
            generation=None if generation is None else Generation.from_dict(generation),
            active=data.get("active", False),
            restarts=data.get("restarts", 0),
            target=data.get("target"),
            drains={
                node: Drain(incarnation=d["incarnation"], grace=d["grace"], reason=d["reason"])
                for node, d in data.get("drains", {}).items()
            },
            set_aside=dict(data.get("set_aside", {})),
            evidence=tuple(
                Failure(
                    step=failure["step"],
                    node=failure["node"],
                    rank=failure["rank"],
                    own=failure["own"],
                    counted=failure["counted"],
                    text=failure["text"],
                    error=failure.get("error", ""),
                )
                for failure in data.get("evidence", ())
            ),
            ended=None
            if ended is None
            else Ended(status=ended["status"], reason=ended["reason"], by=ended.get("by", "")),
        )
