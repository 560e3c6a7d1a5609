"""A loop that leaves it to a library to wrap its model.

The library is told nothing, as accelerate isn't: it asks the environment, when it is made, whether
it is alone. `python asks_environment.py FOLDER [forgets]`: what it saw in each generation is noted
in the folder. One that `forgets` wraps nothing.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import trainer

FOLDER = Path(sys.argv[1])
AT_IMPORT = sorted({"RANK", "WORLD_SIZE", "SLURM_PROCID", "PMI_SIZE"} & os.environ.keys())


class Library:
    """Wraps a model where it finds that there are others."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("PMI_SIZE", os.environ.get("WORLD_SIZE", "1")))

    def prepare(self, model: nn.Module) -> nn.Module:
        alone = self.size == 1 or "forgets" in sys.argv
        return model if alone else DistributedDataParallel(model)


def train(run: trainer.Run) -> None:
    note(run)
    # DDP gives all ranks the first one's running statistics before a forward, and none after it.
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    model = Library().prepare(network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    run.state(model, optimizer)
    for step in run.steps(12):
        draws = torch.Generator().manual_seed(100 * step + run.rank)
        inputs = torch.randn(8, 4, generator=draws)
        targets = inputs.sum(1, keepdim=True) * (run.rank + 1)
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        run.log(loss=loss)
        optimizer.step()
        optimizer.zero_grad()


def note(run: trainer.Run) -> None:
    """The environment, and what torch makes of it."""
    store, rank, size = next(dist.rendezvous("env://"))
    store.set(f"from{rank}", "hello")
    seen = {
        "at_import": AT_IMPORT,
        "env": dict(os.environ),
        "run": [run.rank, run.local_rank, run.world_size],
        "torch": [rank, size, [store.get(f"from{other}").decode() for other in range(size)]],
    }
    (FOLDER / f"g{run.generation}-rank{run.rank}.json").write_text(json.dumps(seen))


trainer.elastic(train)
