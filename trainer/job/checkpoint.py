"""The `checkpoint` section: what is saved, when, and for how long."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from trainer.job.section import Section


class CheckpointSection(Section):
    """Sharded, committed by one rename, readable by any mesh."""

    every: int = Field(100, ge=0, description="Steps between two saves; 0 saves none on the way.")
    at_end: bool = Field(True, description="Whether the last step is saved too.")
    directory: str | None = Field(
        None,
        description="A path or an fsspec address that every node sees; by default `checkpoints` "
        "in the run directory.",
    )
    storage_options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the object store, as fsspec names them."
    )
    keep: int = Field(3, gt=0, description="How many of the newest checkpoints stay.")
    keep_every: int | None = Field(
        None, gt=0, description="Checkpoints of steps that divide by this stay for good."
    )
    when_busy: Literal["wait", "skip"] = Field(
        "wait", description="What a save does while the one before is still being written."
    )
    resume: bool = Field(
        True,
        description="Whether a start takes up the newest whole checkpoint of the directory, "
        "also where another run has saved it.",
    )
