"""A worker whose groups behave as NCCL's: it trains a job's model, or a loop of a user's own.

Run as `python -m tests.integration.training.cut_worker DIRECTORY`; see tests/like_nccl.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

import trainer
from tests.like_nccl import install
from trainer.job import load
from trainer.worker.inbox import Enter
from trainer.worker.job_training import JobTraining
from trainer.worker.loop import Program, live
from trainer.worker.own.program import OwnLoop
from trainer.worker.process import leave, prepare, say_hello

STEPS = 24


def train(run: trainer.Run, *, tail: bool = False) -> None:
    """A body that is sharded, and a head that is whole on every rank.

    `tail`: the head's owner gives it to the others after the step, as sharded optimizers do.
    """
    torch.manual_seed(0)
    body, head = nn.Sequential(nn.Linear(12, 24), nn.Tanh()), nn.Linear(24, 1)
    fully_shard(body, mesh=run.mesh)
    optimizers = [torch.optim.AdamW(part.parameters(), lr=3e-3) for part in (body, head)]
    run.state(nn.ModuleDict({"body": body, "head": head}), *optimizers)
    for step in run.steps(STEPS):
        draw = torch.Generator().manual_seed(step)
        x = torch.randn(12, 12, generator=draw)[run.rank :: run.world_size]
        loss = F.mse_loss(head(body(x)), x.sin().sum(1, keepdim=True))
        loss.backward()
        for parameter in head.parameters():
            assert parameter.grad is not None
            dist.all_reduce(parameter.grad)
        run.log(loss=loss, tokens=len(x))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if tail:
            dist.broadcast(head.weight.data, 0)


def begin(order: Enter) -> Program:
    entrypoint = load(Path(order.job)).entrypoint
    if entrypoint is None:
        return JobTraining.described_in(order)
    tail = entrypoint.script == "tail.py"
    return OwnLoop.of(lambda run: train(run, tail=tail), order)


def main() -> int:
    install(Path(sys.argv[1]))
    channel = prepare()
    say_hello(channel)
    return live(channel, begin)


if __name__ == "__main__":
    leave(main())
