"""The sizes of the reference decoder, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """A decoder's shape: widths in channels, `vocab` in tokens."""

    dim: int
    layers: int
    heads: int
    kv_heads: int
    ffn_dim: int
    ffn_multiple: int
    vocab: int
    rope_theta: float = 500000.0
    norm_eps: float = 1e-5
    dropout: float = 0.0
    tied: bool = False

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def layer_parameters(self) -> int:
        """Of one block: four projections, three feed-forward matrices, two norms."""
        attention = 2 * self.dim * self.dim + 2 * self.dim * self.kv_heads * self.head_dim
        return attention + 3 * self.dim * self.ffn_dim + 2 * self.dim

    @property
    def embedding_parameters(self) -> int:
        return self.vocab * self.dim

    @property
    def parameters(self) -> int:
        """Of the whole model; a tied head is counted once."""
        tables = self.embedding_parameters * (1 if self.tied else 2)
        return tables + self.layers * self.layer_parameters + self.dim


PRESETS: Mapping[str, Sizes] = MappingProxyType(
    {
        "debug": Sizes(
            dim=128, layers=4, heads=4, kv_heads=2, ffn_dim=512, ffn_multiple=64, vocab=256,
            rope_theta=10000.0,
        ),
        "small": Sizes(
            dim=384, layers=6, heads=8, kv_heads=4, ffn_dim=1024, ffn_multiple=64, vocab=256,
            rope_theta=10000.0,
        ),
        "1b": Sizes(
            dim=2048, layers=16, heads=32, kv_heads=8, ffn_dim=8192, ffn_multiple=256,
            vocab=128256, tied=True,
        ),
        "8b": Sizes(
            dim=4096, layers=32, heads=32, kv_heads=8, ffn_dim=14336, ffn_multiple=1024,
            vocab=128256,
        ),
        "70b": Sizes(
            dim=8192, layers=80, heads=64, kv_heads=8, ffn_dim=28672, ffn_multiple=4096,
            vocab=128256,
        ),
        "405b": Sizes(
            dim=16384, layers=126, heads=128, kv_heads=8, ffn_dim=53248, ffn_multiple=4096,
            vocab=128256,
        ),
    }
)  # fmt: skip
