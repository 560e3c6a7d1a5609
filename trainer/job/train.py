"""The `train` section: how long, in what portions, and with which optimizer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.job.section import Section


class OptimizerSection(Section):
    """AdamW and its settings."""

    name: Literal["adamw"] = Field("adamw", description="The optimizer.")
    lr: float = Field(3e-4, gt=0, description="Learning rate after the warm-up.")
    betas: tuple[float, float] = Field((0.9, 0.95), description="Decay of the two moments.")
    eps: float = Field(1e-8, gt=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(
        0.1, ge=0, description="Decoupled decay of matrices; vectors are never decayed."
    )
    fused: Literal["auto"] | bool = Field(
        "auto", description="Whether to use torch's fused kernel; auto takes it where there is one."
    )


class ScheduleSection(Section):
    """The learning rate over `train.steps`."""

    warmup: int = Field(0, ge=0, description="Steps over which the rate rises from zero.")
    decay: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Shape of the fall after the warm-up."
    )
    min_ratio: float = Field(
        0.1, ge=0, le=1, description="Learning rate at the last step, as a share of `lr`."
    )


class TrainSection(Section):
    """The global batch is `pieces × microbatches × microbatch_size` samples, on any mesh."""

    steps: int = Field(100, gt=0, description="Optimizer steps in all; they set the schedule.")
    stop_at: int | None = Field(
        None, gt=0, description="Save and end after this step, to be gone on with later."
    )
    pieces: Literal["auto"] | int = Field(
        "auto",
        description="Portions into which every global batch is cut, whatever the number of "
        "ranks; auto is the largest data-parallel size that the job allows.",
    )
    microbatches: int = Field(1, gt=0, description="Microbatches of a piece.")
    microbatch_size: int | None = Field(
        None, gt=0, description="Samples of a microbatch; 1, or what `batch` asks for, if null."
    )
    batch: int | None = Field(
        None, gt=0, description="Samples of the global batch, in place of `microbatch_size`."
    )
    exact: bool = Field(
        True,
        description="Whether gradients are added in one order for any number of ranks, so that "
        "every mesh gives the same bits.",
    )
    optimizer: OptimizerSection = Field(
        OptimizerSection(), description="The optimizer and its settings."
    )
    schedule: ScheduleSection = Field(
        ScheduleSection(), description="The learning rate over the steps."
    )
    clip: float | None = Field(
        None, gt=0, description="Largest norm of the whole gradient; null does not clip."
    )
    spike: float | None = Field(
        None,
        gt=1,
        description="How many times the running median a loss or gradient norm may be before its "
        "step counts as bad; null takes only numbers that are not finite for bad.",
    )
    on_bad_numbers: Literal["skip", "rollback", "stop"] = Field(
        "skip",
        description="What to do with a step whose loss or gradient norm is bad: pass over its "
        "update; go back to the last mirror first and pass over it when it comes again; or end "
        "the job as failed.",
    )
    bad_steps: int = Field(
        10, gt=0, description="Bad steps in a row after which the job ends as failed."
    )
    log_every: int = Field(1, gt=0, description="Steps between two lines of progress.")

    def samples_per_microbatch(self, pieces: int) -> int:
        """Raises ValueError where `batch` does not divide by pieces × microbatches."""
        portions = pieces * self.microbatches
        if self.batch is None:
            return self.microbatch_size or 1
        size, rest = divmod(self.batch, portions)
        if rest or size == 0:
            below, above = max(1, size) * portions, (size + 1) * portions
            raise ValueError(
                f"a batch of {self.batch} does not divide by {pieces} pieces of "
                f"{self.microbatches} microbatches; use "
                + (f"{below}" if size == 0 else f"{below} or {above}")
            )
        return size
