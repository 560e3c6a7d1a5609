"""The `run` section: where a run is kept, and from which seed everything is drawn."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.job.section import Section
from trainer.names import RUN_ID


class RunSection(Section):
    """One execution of the job."""

    largest = 1 << 63

    directory: str = Field("runs", description="The directory in which each run has its own.")
    id: str | None = Field(
        None,
        pattern=f"^{RUN_ID.pattern}$",
        description="Name of the run; by default that of this job's newest unfinished run, and "
        "where there is none (or with --fresh) the job's name and the time.",
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="Seed of weights, data order, dropout and random faults."
    )
    device: Literal["auto", "cpu", "cuda", "xpu", "mps"] = Field(
        "auto", description="Where to compute; auto takes the accelerator where there is one."
    )
