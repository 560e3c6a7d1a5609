"""The `compile` section: torch.compile, block by block."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.job.section import Section


class CompileSection(Section):
    """Each block is compiled by itself, so that a new mesh finds the code of the last one."""

    enabled: bool = Field(False, description="Whether blocks are compiled.")
    backend: str = Field("inductor", description="The compiler backend.")
    mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = (
        Field("default", description="How hard the compiler tries.")
    )
    fullgraph: bool = Field(True, description="Whether a graph break is an error.")
