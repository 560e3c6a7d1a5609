"""Factories as users write them."""

from __future__ import annotations

import torch
from torch import nn

from trainer.job import from_mapping
from trainer.models import build_spec


class Bigram(nn.Module):
    """Knows nothing of keys, meshes or seeds."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.table = nn.Embedding(256, width)
        self.body = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        self.head = nn.Linear(width, 256)
        self.register_buffer("scale", torch.linspace(1.0, 2.0, width), persistent=False)

    def forward(self, tokens):
        return self.head(self.body(self.table(tokens) * self.scale))


class Keyed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(256, 256)

    def forward(self, tokens, keys):
        return self.table(tokens) + keys[:, None, None]


def bigram(width: int = 8):
    return Bigram(width)


def keyed():
    return Keyed()


def planned():
    return build_spec(from_mapping({"model": {"preset": "debug", "layers": 2}}))


def wrong():
    return "a model"
