"""Models with buffers, as users write them."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel

from trainer.models import InitRule, ModelSpec, Stage, TensorPlan
from trainer.models.loss import summed_cross_entropy

VOCAB, WIDTH = 256, 16


class Constant(nn.Module):
    """Buffers that no forward changes: of several types, shared, absent, and not persistent."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.head = nn.Linear(WIDTH, VOCAB)
        self.register_buffer("scale", torch.randn(WIDTH).abs() + 1)
        self.register_buffer("same_scale", self.scale)
        self.register_buffer("used", torch.arange(WIDTH) % 5 != 0)
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float64))
        self.register_buffer("nothing", None)
        self.register_buffer("passing", torch.ones(WIDTH), persistent=False)

    def forward(self, tokens):
        hidden = self.table(tokens) * self.scale * self.used * self.passing
        for block in self.blocks:
            hidden = hidden + torch.tanh(block(hidden))
        return self.head(hidden)


class Changing(nn.Module):
    """Buffers that the forward changes and reads: by what it sees, by how often it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.norm = nn.BatchNorm1d(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("begun", torch.tensor(False))
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("passing", torch.zeros(()), persistent=False)

    def forward(self, tokens):
        self.seen += 1
        self.begun.fill_(True)
        self.passing += 1
        hidden = self.table(tokens)
        with torch.no_grad():
            self.mean = 0.9 * self.mean + 0.1 * hidden.mean((0, 1))
        hidden = (hidden - self.mean) * torch.clamp(self.seen / 40, max=1.0)
        for block in self.blocks:
            hidden = hidden + torch.tanh(block(hidden))
        return self.head(self.norm(hidden.transpose(1, 2)).transpose(1, 2))


class Growing(nn.Module):
    """A buffer that grows with the forwards, or one that comes with the first."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.table = nn.Embedding(VOCAB, WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB)
        self.register_buffer("history", torch.zeros(1))
        self.register_buffer("mask", None)

    def forward(self, tokens):
        if self.kind == "grows":
            self.history = torch.cat((self.history, self.history.new_ones(1)))
        else:
            self.mask = torch.ones(tokens.shape[1])
        return self.head(self.table(tokens))


class CountingLinear(nn.Linear):
    """Counts its forwards: under tensor parallelism, in a buffer that is a DTensor."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes, bias=False)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, hidden):
        self.calls += 1
        return super().forward(hidden)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = CountingLinear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, hidden):
        return hidden + self.down(torch.tanh(self.up(hidden)))


class Staged(nn.Module):
    """One stage of two blocks' model; every stage has a buffer called `forwards`."""

    def __init__(self, stage: Stage, *, apart: bool) -> None:
        super().__init__()
        self.step = 1 + stage.index if apart else 1
        self.table = nn.Embedding(VOCAB, WIDTH) if stage.is_first else None
        held = [index for index in range(2) if index * stage.count // 2 == stage.index]
        self.blocks = nn.ModuleDict({str(index): Block() for index in held})
        self.head = nn.Linear(WIDTH, VOCAB, bias=False) if stage.is_last else None
        self.register_buffer("forwards", torch.zeros((), dtype=torch.int32))

    def forward(self, values, keys=None):
        self.forwards += self.step
        hidden = values if self.table is None else self.table(values)
        for block in self.blocks.values():
            hidden = block(hidden)
        return hidden if self.head is None else self.head(hidden)


def constant(offset: float = 0.5):
    return Constant(offset)


def changing():
    return Changing()


def growing(kind: str):
    return Growing(kind)


def staged(*, apart: bool = False, fills: bool = True):
    def fill(module: nn.Module, device: torch.device) -> None:
        for name, buffer in module.named_buffers():
            if fills or name != "forwards":
                buffer.zero_()

    def plan(module: nn.Module, sequence_parallel: bool, loss_parallel: bool) -> TensorPlan:
        styles = {
            f"blocks.{index}.{name}": style()
            for index in module.blocks
            for name, style in (("up", ColwiseParallel), ("down", RowwiseParallel))
        }
        return TensorPlan(styles=styles, loss_is_cut=False)

    return ModelSpec(
        build=lambda stage: Staged(stage, apart=apart),
        after_materialize=fill,
        blocks=lambda module: list(module.blocks.values()),
        init_rule=lambda name: InitRule("normal", 0.2),
        loss=summed_cross_entropy,
        tensor_plan=plan,
        stages=2,
        hidden_size=WIDTH,
        vocab=VOCAB,
    )
