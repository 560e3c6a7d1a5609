"""What every peer's script shares: the job's model and batches, and a record of its steps."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from trainer.data import open_batches
from trainer.job import load
from trainer.models.factory import build_spec
from trainer.models.spec import Stage
from trainer.parallel.compilation import compile_blocks


class Work:
    """The job at `path`, as one would take it up by hand: the same weights, batches, blocks."""

    def __init__(self, path: Path) -> None:
        self.job = load(path)
        self.spec = build_spec(self.job)
        self._batches = open_batches(self.job)
        self.pieces = self.job.pieces()

    def model(self) -> nn.Module:
        """Materialized on the CPU, alike on every rank, its blocks compiled if the job says so."""
        torch.manual_seed(0)
        with torch.device("cpu"):
            model = self.spec.build(Stage(index=0, count=1)).to_empty(device="cpu")
        self.spec.after_materialize(model, torch.device("cpu"))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.02)
        if self.job.compile.enabled:
            compile_blocks(self.spec.blocks(model), self.job.compile)
        return model

    def backward(
        self,
        model: nn.Module,
        step: int,
        rank: int,
        world: int,
        *,
        weight: float,
        quiet: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Gradients of this rank's pieces of one step, each piece's mean loss times `weight`.

        `quiet()` is around all pieces but the last: gradients stay on the rank there.
        """
        mine = range(rank, self.pieces, world)
        for piece in mine:
            with nullcontext() if piece == mine[-1] else quiet():
                tokens, targets, keys = self._batches.batch(step, piece)
                loss = F.cross_entropy(model(tokens, keys).flatten(0, 1), targets.flatten())
                (loss * weight).backward()


class Steps:
    """Appends one line a step to a file of this process's own, on the monotonic clock."""

    def __init__(self, room: Path) -> None:
        room.mkdir(parents=True, exist_ok=True)
        self._file = (room / f"{os.getpid()}.jsonl").open("a", buffering=1)

    def done(self, step: int, *, rank: int, world: int, epoch: object) -> None:
        """`epoch` names the incarnation of the run that did it."""
        line = {"time": time.monotonic(), "step": step, "world": world, "epoch": str(epoch)}
        self._file.write(json.dumps({**line, "rank": rank, "pid": os.getpid()}) + "\n")
