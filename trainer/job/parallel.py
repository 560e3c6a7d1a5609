"""The `parallel` section: how the model and the batch are spread over the ranks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.job.elastic import MAX_RANKS
from trainer.job.section import Section

PipelineSchedule = Literal["gpipe", "1f1b", "interleaved1f1b", "interleaved-zero-bubble", "zbv"]
ZERO_BUBBLE = frozenset({"interleaved-zero-bubble", "zbv"})
INTERLEAVED = frozenset({"interleaved1f1b", "interleaved-zero-bubble"})
Dtype = Literal["float32", "bfloat16", "float16"]


class ParallelSection(Section):
    """The mesh is pipeline × replicate × shard × tensor; data = replicate × shard."""

    data: Literal["auto"] | int = Field(
        "auto",
        description="Data-parallel ranks; auto takes what tensor × pipeline leave, up to the "
        "number of pieces.",
    )
    replicate: int = Field(
        1,
        gt=0,
        le=MAX_RANKS,
        description="Replicas of the sharded model among the data-parallel ranks (HSDP).",
    )
    tensor: int = Field(1, gt=0, le=MAX_RANKS, description="Ranks over which each layer is cut.")
    pipeline: int = Field(
        1, gt=0, le=MAX_RANKS, description="Ranks over which the layers are spread."
    )
    schedule: PipelineSchedule = Field("1f1b", description="Order of work in the pipeline.")
    stages_per_rank: Literal["auto"] | int = Field(
        "auto",
        description="Pipeline stages of a rank; auto is 2 for interleaved1f1b, "
        "interleaved-zero-bubble and zbv, otherwise 1.",
    )
    sequence_parallel: bool = Field(
        True, description="With tensor ranks, whether norms and dropout are cut along the sequence."
    )
    loss_parallel: bool = Field(
        True, description="With tensor ranks, whether the loss is computed on cut logits."
    )
    tensor_across_nodes: bool = Field(
        False, description="Whether a tensor group may reach over several nodes."
    )
    reshard_after_forward: Literal["auto", "always", "never"] = Field(
        "auto",
        description="When parameters are given back after the forward pass; auto keeps them in "
        "a pipeline and gives them back elsewhere.",
    )
    cpu_offload: bool = Field(
        False, description="Whether sharded parameters and optimizer state live in host memory."
    )
    param_dtype: Dtype = Field("float32", description="Type in which layers compute.")
    reduce_dtype: Dtype = Field("float32", description="Type in which gradients are added.")
    activation_checkpoint: Literal["none", "selective", "full"] = Field(
        "none", description="Which activations are computed again in the backward pass."
    )

    @property
    def virtual_stages(self) -> int:
        """Pipeline stages of a rank."""
        if self.stages_per_rank != "auto":
            return self.stages_per_rank
        return 1 if self.schedule in ("gpipe", "1f1b") or self.pipeline == 1 else 2
