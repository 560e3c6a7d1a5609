"""A script that knows nothing of Remesh: plain DDP, as torchrun would start it.

remesh run configs/script.yaml
remesh run --nproc-per-node 2 examples/plain_ddp.py --steps 100
torchrun --nproc-per-node 2 examples/plain_ddp.py --steps 100
"""

from __future__ import annotations

import argparse

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel


@record
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-2)
    arguments = parser.parse_args()

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 1)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr)
    draws = torch.Generator().manual_seed(rank)
    for step in range(1, arguments.steps + 1):
        inputs = torch.randn(32, 16, generator=draws)
        loss = (model(inputs).squeeze(1) - inputs.sin().sum(dim=1)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if rank == 0 and (step % 20 == 0 or step == arguments.steps):
            print(f"step {step} loss {loss.item():.4f}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
