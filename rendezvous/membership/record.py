"""What must survive the leader: small, plain, readable in the store.

It changes when the membership does, never with a beat. Times are not in it, because no two
leaders share a clock: a new leader starts its waits anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
class StepFailure:
    """A failure at a step, kept as evidence until a later step fails or the budget is used up."""

    step: int
    node: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the job ended: completed, failed or stopped."""

    status: str
    reason: str


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
    failures: Mapping[str, int] = field(default_factory=dict)
    """Worker failures by node."""
    set_aside: Mapping[str, str] = field(default_factory=dict)
    """Nodes that are not taken in any more, and why."""
    step_failures: tuple[StepFailure, ...] = ()
    finished: tuple[str, ...] = ()
    """Members of the generation that have completed the job."""
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
            "failures": dict(self.failures),
            "set_aside": dict(self.set_aside),
            "step_failures": [
                {"step": f.step, "node": f.node, "cause": f.cause} for f in self.step_failures
            ],
            "finished": list(self.finished),
            "ended": None
            if self.ended is None
            else {"status": self.ended.status, "reason": self.ended.reason},
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
            failures=dict(data.get("failures", {})),
            set_aside=dict(data.get("set_aside", {})),
            step_failures=tuple(
                StepFailure(step=f["step"], node=f["node"], cause=f["cause"])
                for f in data.get("step_failures", ())
            ),
            finished=tuple(data.get("finished", ())),
            ended=None if ended is None else Ended(status=ended["status"], reason=ended["reason"]),
        )
