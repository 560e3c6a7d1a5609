"""What one would write by hand: FSDP2 around the same model, under torchrun.

    torchrun --standalone --nproc-per-node=2 benchmarks/peers/fsdp2_loop.py JOB.yaml

Prints one JSON line: the seconds of each step, without the first few.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from trainer.data import open_batches
from trainer.job import load
from trainer.models.factory import build_spec
from trainer.models.spec import Stage

WARM_UP_STEPS = 5


def main() -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    job = load(Path(sys.argv[1]))
    spec, batches = build_spec(job), open_batches(job)
    torch.manual_seed(0)
    model = spec.build(Stage(index=0, count=1))
    spec.after_materialize(model, torch.device("cpu"))
    for block in spec.blocks(model):
        fully_shard(block)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
    assert job.pieces() % world == 0
    seconds = []
    for step in range(job.train.steps):
        began = time.perf_counter()
        mine = range(rank, job.pieces(), world)
        for piece in mine:
            tokens, targets, keys = batches.batch(step, piece)
            parts = [value.chunk(job.train.microbatches) for value in (tokens, targets, keys)]
            for index, (inputs, wanted, sample_keys) in enumerate(zip(*parts, strict=True)):
                last = piece == mine[-1] and index == job.train.microbatches - 1
                model.set_is_last_backward(last)
                model.set_requires_gradient_sync(last)
                logits = model(inputs, sample_keys)
                loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten())
                (loss / (len(mine) * job.train.microbatches)).backward()
        norm = clip_grad_norm_(model.parameters(), 1.0)
        norm.full_tensor()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total = loss.detach().clone()
        dist.all_reduce(total)
        total.item()
        seconds.append(time.perf_counter() - began)
    if rank == 0:
        print(json.dumps({"step_seconds": seconds[WARM_UP_STEPS:]}))
    dist.destroy_process_group()


main()
