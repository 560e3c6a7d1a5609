"""A plain DDP script that knows nothing of its launcher: three steps, one all-reduce of the end."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
torch.manual_seed(0)
model = DistributedDataParallel(torch.nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
torch.manual_seed(dist.get_rank())
for _step in range(3):
    optimizer.zero_grad()
    model(torch.randn(8, 4)).pow(2).mean().backward()
    optimizer.step()
total = sum(parameter.detach().double().sum() for parameter in model.parameters())
out = Path(sys.argv[1]) / f"rank{os.environ['RANK']}.txt"
out.write_text(f"{dist.get_world_size()} {total.item():.12f}")
dist.destroy_process_group()
