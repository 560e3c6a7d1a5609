"""The `faults` section: failures as data, for tests and for rehearsals."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from trainer.errors import JobError
from trainer.job.section import Duration, Section
from trainer.outside.echo import cut, shown

Kind = Literal[
    "kill", "stop", "hang", "raise", "exit", "slow", "nan", "drain", "disconnect", "agent-kill"
]
Point = Literal["before-backward", "in-fold", "before-norm", "after-norm", "after-apply", "in-save"]


class Fault(Section):
    """One failure: at a step of a rank, or at random with a rate."""

    kind: Kind = Field(description="What happens.")
    step: int | None = Field(
        None, gt=0, description="The step in which it happens, counted from 1."
    )
    rank: int | None = Field(
        None, ge=0, description="The global rank it befalls; null draws one at random."
    )
    node: str | None = Field(None, description="The node it befalls, in place of a rank.")
    generation: int | None = Field(
        None, gt=0, description="The only generation in which it happens; null is any, once."
    )
    point: Point = Field("before-backward", description="The place in the step.")
    seconds: Duration = Field(5.0, description="How long a stop or a slow step lasts.")
    code: int = Field(1, ge=0, le=255, description="Exit code of kind exit.")
    rate: float | None = Field(
        None, ge=0, le=1, description="Chance of each rank in each step, in place of a step."
    )
    times: int = Field(1, gt=0, description="How often it happens at most.")


def parse_fault(text: str) -> dict[str, Any]:
    """Read `step=30,rank=2,kind=kill` into what the `faults` list of a job file holds.

    Raises:
        JobError: a part is not `key=value`.
    """
    fault: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise JobError(
                f"--fault {cut(text)}: {shown(part)} is not key=value; write "
                "step=30,rank=2,kind=kill"
            )
        fault[key.strip().replace("-", "_")] = value.strip()
    return fault
