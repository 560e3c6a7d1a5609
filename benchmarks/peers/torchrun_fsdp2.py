"""An elastic FSDP2 loop as torchrun has it: all workers start again and load the checkpoint.

torchrun … benchmarks/peers/torchrun_fsdp2.py JOB.yaml ROOM
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import clip_grad_norm_

from benchmarks.peers.work import Steps, Work

FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


def main() -> None:
    path, room = Path(sys.argv[1]), Path(sys.argv[2])
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    work, steps = Work(path), Steps(room / "steps")
    model = work.model()
    for block in work.spec.blocks(model):
        fully_shard(block)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
    step = restore(model, optimizer, room)
    epoch = f"{os.environ['TORCHELASTIC_RUN_ID']}-{os.getppid()}-{os.getpid()}"
    first: list[str] = [epoch]
    dist.broadcast_object_list(first)
    while step < work.job.train.steps:
        work.backward(model, step, rank, world, weight=world / work.pieces)
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        steps.done(step, rank=rank, world=world, epoch=first[0])
        if step % work.job.checkpoint.every == 0:
            save(model, optimizer, room, step)


def save(model: Any, optimizer: torch.optim.Optimizer, room: Path, step: int) -> None:
    """A directory a step; `latest` names the newest whole one, by one rename."""
    dcp.save(state_of(model, optimizer), checkpoint_id=room / "checkpoints" / str(step))
    if dist.get_rank() == 0:
        fresh = room / "latest.new"
        fresh.write_text(str(step))
        fresh.rename(room / "latest")
        for old in (room / "checkpoints").iterdir():
            if int(old.name) < step - 10:
                shutil.rmtree(old)


def restore(model: Any, optimizer: torch.optim.Optimizer, room: Path) -> int:
    """The step to go on from."""
    latest = room / "latest"
    agreed: list[int] = [int(latest.read_text()) if latest.exists() else 0]
    dist.broadcast_object_list(agreed)
    (step,) = agreed
    if step:
        state = state_of(model, optimizer)
        dcp.load(state, checkpoint_id=room / "checkpoints" / str(step))
        set_state_dict(
            model,
            optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
            options=FLAT,
        )
    return step


def state_of(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    parameters, moments = get_state_dict(model, optimizer, options=FLAT)
    return {"model": parameters, "optimizer": moments}


main()
