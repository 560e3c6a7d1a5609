"""Replicas of which one dies in a step's commit, while another never hears what came of it.

1. Rank 2 dies when the commit of step 7 is through.
2. Rank 1 gets an error in place of its result: it has whole gradients, and is in doubt.
3. Rank 0 has the result, and ends the step.

`python doubtful.py FOLDER`: each end of a step is noted there, by whoever comes to it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

import trainer
from trainer.worker.own import run as own_run

STEP = 7
FOLDER = Path(sys.argv[1])
real_count = own_run.count


def count(*arguments):
    tally = real_count(*arguments)
    if "doubt" in sys.argv and here.get("step") == STEP and here["generation"] == 1:
        if here["rank"] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if here["rank"] == 1:
            raise RuntimeError("gloo: the connection was closed")
    return tally


own_run.count = count
here: dict[str, int] = {}


def train(run: trainer.Run) -> None:
    here.update(rank=run.rank, generation=run.generation)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    run.state(model, optimizer, scheduler=scheduler)
    for step in run.steps(12):
        here["step"] = step
        draws = torch.Generator().manual_seed(100 * step + run.rank)
        model(torch.randn(4, 8, generator=draws)).square().mean().backward()
        # By hand: DDP cuts its buckets anew after its first step, and sums in another order then.
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        (FOLDER / f"step{step}-rank{run.rank}-pid{os.getpid()}").touch()


trainer.elastic(train)
raise AssertionError("the process ends with its loop")
