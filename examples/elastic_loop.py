"""A training loop of one's own that survives the loss of its ranks, in the same processes.

remesh run --elastic --nproc-per-node 4 examples/elastic_loop.py --steps 200
remesh run configs/elastic-loop.yaml
torchrun --nproc-per-node 4 examples/elastic_loop.py --steps 200
python examples/elastic_loop.py --steps 200
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

import trainer

SAMPLES = 64
"""Of the whole batch; shared out over however many ranks there are."""


def batch(step: int, rank: int, world_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The rank's samples of a step: a function of the step alone, so that it can be done again."""
    draws = torch.Generator().manual_seed(step)
    inputs = torch.randn(SAMPLES, 32, generator=draws)
    targets = inputs.sin().sum(dim=1, keepdim=True)
    return inputs[rank::world_size], targets[rank::world_size]


def train(run: trainer.Run) -> None:
    model = nn.Sequential(
        nn.Linear(32, 128), nn.Tanh(), nn.Dropout(0.1), nn.Linear(128, 128), nn.Tanh(),
        nn.Linear(128, 1),
    ).to(run.device)  # fmt: skip
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=run.mesh)
    fully_shard(model, mesh=run.mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=arguments.steps)

    run.state(model, optimizer, scheduler=scheduler)

    for step in run.steps(arguments.steps):
        inputs, targets = (t.to(run.device) for t in batch(step, run.rank, run.world_size))
        loss = F.mse_loss(model(inputs), targets)
        loss.backward()
        run.log(loss=loss)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if run.rank == 0 and (step + 1) % 20 == 0:
            print(f"step {step + 1} loss {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    trainer.elastic(train)
