"""The `model` section: a preset of the reference decoder, or a factory of the user's own."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from pydantic import Field

from trainer.job.presets import PRESETS, Sizes
from trainer.job.section import Section

Preset = Literal["debug", "small", "1b", "8b", "70b", "405b"]
MAX_SIZE = 10_000_000
"""Of a width, or a number of blocks, heads or tokens: far beyond any model there is."""
FACTORY_PATTERN = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"


class ModelSection(Section):
    """What is trained."""

    preset: Preset = Field("debug", description="Sizes of the reference decoder, by name.")
    factory: str | None = Field(
        None,
        pattern=FACTORY_PATTERN,
        description="A function `package.module:function` that returns the model, or the model "
        "with its plan, in place of a preset.",
    )
    args: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of the factory."
    )
    dim: int | None = Field(None, gt=0, le=MAX_SIZE, description="Width in place of the preset's.")
    layers: int | None = Field(
        None, gt=0, le=MAX_SIZE, description="Number of blocks in place of the preset's."
    )
    heads: int | None = Field(
        None, gt=0, le=MAX_SIZE, description="Number of attention heads in place of the preset's."
    )
    kv_heads: int | None = Field(
        None,
        gt=0,
        le=MAX_SIZE,
        description="Number of key and value heads in place of the preset's.",
    )
    ffn_dim: int | None = Field(
        None,
        gt=0,
        description="Width of the feed-forward layer; by default it keeps the preset's "
        "proportion to `dim`.",
    )
    ffn_multiple: int | None = Field(
        None,
        gt=0,
        le=MAX_SIZE,
        description="The feed-forward width is rounded up to a multiple of this.",
    )
    vocab: int | None = Field(
        None, gt=1, le=MAX_SIZE, description="Number of tokens in place of the preset's."
    )
    rope_theta: float | None = Field(
        None, gt=0, description="Base of the rotary embedding in place of the preset's."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of activations dropped after each half of a block."
    )
    tied: bool | None = Field(
        None,
        description="Whether the head shares the embedding's weights; the preset says if null.",
    )

    def sizes(self) -> Sizes:
        """The preset with this section's overrides; meaningless where a factory is given."""
        base = PRESETS[self.preset]
        dim = self.dim or base.dim
        multiple = self.ffn_multiple or base.ffn_multiple
        if self.ffn_dim is not None:
            ffn_dim = self.ffn_dim
        elif dim == base.dim and multiple == base.ffn_multiple:
            ffn_dim = base.ffn_dim
        else:
            ffn_dim = -(-(base.ffn_dim * dim) // (base.dim * multiple)) * multiple
        return dataclasses.replace(
            base,
            dim=dim,
            layers=self.layers or base.layers,
            heads=self.heads or base.heads,
            kv_heads=self.kv_heads or min(base.kv_heads, self.heads or base.heads),
            ffn_dim=ffn_dim,
            ffn_multiple=multiple,
            vocab=self.vocab or base.vocab,
            rope_theta=self.rope_theta or base.rope_theta,
            dropout=self.dropout,
            tied=base.tied if self.tied is None else self.tied,
        )
