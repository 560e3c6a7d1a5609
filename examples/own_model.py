"""A model of your own for a job: a small decoder, and a fine-tune of it with low-rank adapters.

    PYTHONPATH=examples remesh run examples/own_model.yaml
    PYTHONPATH=examples remesh run examples/own_model.yaml --set model.factory=own_model:adapted

The job shards it, compiles its blocks, saves and reshards it; the factory only builds it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Causal attention and a small network, each added to what comes in."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(2)])
        self.mixed, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, hidden: Tensor) -> Tensor:
        samples, length, dim = hidden.shape
        mixed = self.mixed(self.norms[0](hidden))
        parts = mixed.view(samples, length, 3, self.heads, dim // self.heads).transpose(1, 3)
        seen = functional.scaled_dot_product_attention(*parts.unbind(2), is_causal=True)
        hidden = hidden + self.out(seen.transpose(1, 2).reshape(samples, length, dim))
        return hidden + self.narrow(functional.gelu(self.wide(self.norms[1](hidden))))


class Decoder(nn.Module):
    """From tokens [samples, sequence] to logits [samples, sequence, vocabulary]."""

    def __init__(self, vocab: int, dim: int, layers: int, heads: int, longest: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, dim), nn.Embedding(longest, dim)
        self.blocks = nn.ModuleList([Block(dim, heads) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, vocab, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = self.tokens(tokens) + self.places(places)
        for block in self.blocks:
            hidden = block(hidden)
        logits: Tensor = self.head(self.norm(hidden))
        return logits


class Adapter(nn.Module):
    """A frozen layer, and a trained product of two thin ones beside it, which begins at zero."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        added: Tensor = self.up(self.down(hidden))
        return added + self.base(hidden)


def decoder(
    vocab: int = 256, dim: int = 64, layers: int = 2, heads: int = 4, longest: int = 256
) -> Decoder:
    """What `model.factory: own_model:decoder` trains; `model.args` are these arguments."""
    return Decoder(vocab, dim, layers, heads, longest)


def adapted(rank: int = 4) -> Decoder:
    """The same with everything frozen but the adapters of the attention's layers."""
    model = decoder().requires_grad_(False)
    for block in model.blocks:
        assert isinstance(block, Block)
        block.add_module("mixed", Adapter(block.mixed, rank))
        block.add_module("out", Adapter(block.out, rank))
    return model
