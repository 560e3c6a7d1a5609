"""Models as people bring them, whose code can't all be run without values, or that are odd."""

from __future__ import annotations

import torch
from torch import Tensor, nn

VOCAB = 256


class Small(nn.Module):
    """An embedding, two layers, a head."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, dim)
        self.blocks = nn.ModuleList([nn.Linear(dim, dim) for _ in range(2)])
        self.head = nn.Linear(dim, VOCAB)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = hidden + torch.tanh(block(hidden))
        out: Tensor = self.head(hidden)
        return out


class Asks(Small):
    """Reads a tensor's numbers while it is built, as rates of stochastic depth often are."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, len(self.blocks))]


class Slopes(Small):
    """Holds tensors that are neither parameters nor buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.slopes = torch.arange(1, 17).float() / 16
        self.more = [torch.ones(16), {"not": "looked at"}]

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.embedding(tokens) * self.slopes * self.more[0])
        return out


class Adapter(nn.Module):
    """A low-rank addition to a layer that is frozen."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.base(hidden) + self.up(self.down(hidden))
        return out


class Odd(Small):
    """Sizes that can't be shared out evenly: 7, 5, 1."""

    def __init__(self) -> None:
        super().__init__(7)
        self.blocks = nn.ModuleList([nn.Linear(7, 5), nn.Linear(5, 7)])
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = torch.tanh(block(hidden))
        out: Tensor = self.head(hidden) * self.one
        return out


class Scaled(Small):
    """A parameter of no dimension, as CLIP's logit scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) * self.scale


class Empty(Small):
    """A parameter without elements."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.empty(0, 7))

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) + self.nothing.sum()


class Whole(Small):
    """A frozen weight of whole numbers, as weight-only quantization leaves it."""

    def __init__(self) -> None:
        super().__init__()
        numbers = torch.randint(-127, 127, (16, 16), dtype=torch.int8)
        self.whole = nn.Parameter(numbers, requires_grad=False)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        out: Tensor = self.head(hidden + hidden @ (self.whole.float() / 127))
        return out


def adapted(rank: int = 2) -> nn.Module:
    model = Small().requires_grad_(False)
    model.blocks = nn.ModuleList([Adapter(block, rank) for block in model.blocks])
    return model


def frozen() -> nn.Module:
    return Small().requires_grad_(False)


def breaks() -> nn.Module:
    raise ValueError("no such size")
