"""DDP over torchft: every process is a replica group of one, and a step without a dead one counts.

python benchmarks/peers/torchft_ddp.py JOB.yaml ROOM NAME    (TORCHFT_LIGHTHOUSE says where)
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.utils import clip_grad_norm_
from torchft import DistributedDataParallel, Manager, Optimizer, ProcessGroupGloo

from benchmarks.peers.work import Steps, Work

TIMEOUT = timedelta(seconds=30)


def main() -> None:
    path, room, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    work, steps = Work(path), Steps(room / "steps")
    model = work.model()
    inner = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)

    def load_state(state: dict[str, Any]) -> None:
        model.load_state_dict(state["model"])
        inner.load_state_dict(state["optimizer"])

    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    manager = Manager(
        pg=ProcessGroupGloo(timeout=TIMEOUT),
        load_state_dict=load_state,
        state_dict=lambda: {"model": model.state_dict(), "optimizer": inner.state_dict()},
        min_replica_size=1,
        timeout=TIMEOUT,
        replica_id=name,
        rank=0,
        world_size=1,
        store_addr="127.0.0.1",
        store_port=store.port,
        hostname="127.0.0.1",
    )
    replica = DistributedDataParallel(manager, model)
    optimizer = Optimizer(manager, inner)
    while (step := manager.current_step()) < work.job.train.steps:
        optimizer.zero_grad()
        rank, world = manager.participating_rank(), manager.num_participants()
        if rank is None:
            rank, world = 0, work.pieces  # healing: it takes part and isn't counted
        weight = world / work.pieces
        work.backward(replica, step, rank, world, weight=weight, quiet=replica.no_sync)
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        done = manager.current_step()
        if done == step:
            continue
        steps.done(done, rank=rank, world=world, epoch=manager._quorum_id)
        if done % work.job.checkpoint.every == 0 and rank == 0:
            whole = {"model": model.state_dict(), "optimizer": inner.state_dict()}
            torch.save({**whole, "torchft": manager.state_dict()}, room / "checkpoint.pt")


main()
