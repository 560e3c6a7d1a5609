"""DDP within NVRx's in-process wrapper: survivors restart the function, the dead rank stays away.

    RANK=… WORLD_SIZE=… MASTER_ADDR=… MASTER_PORT=… python benchmarks/peers/nvrx_ddp.py JOB ROOM

Every interval of the wrapper that may be short is. The weights are read back from the checkpoint,
as its examples do: a step that was cut off may have changed them on one rank and not on another.
"""

# No postponed annotations here: the wrapper looks for its own class among the parameters' types.
import os
import sys
from datetime import timedelta
from pathlib import Path

import nvidia_resiliency_ext.inprocess as inprocess
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from benchmarks.peers.work import Steps, Work

TICK = timedelta(milliseconds=100)
WORK, STEPS = Work(Path(sys.argv[1])), Steps(Path(sys.argv[2]) / "steps")
CHECKPOINT = Path(sys.argv[2]) / "checkpoint.pt"


@inprocess.Wrapper(
    store_kwargs={"port": int(os.environ["MASTER_PORT"]) + 1},
    monitor_thread_interval=TICK,
    monitor_process_interval=TICK,
    heartbeat_interval=TICK,
    progress_watchdog_interval=TICK,
    heartbeat_timeout=timedelta(seconds=1),
    last_call_wait=TICK,
)
def train(call: inprocess.CallWrapper | None = None) -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    assert call is not None
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=rank == 0,
        multi_tenant=True,
        wait_for_workers=True,
        use_libuv=True,
    )
    store = dist.PrefixStore(str(call.iteration), store)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    plain = WORK.model()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, foreach=True)
    step = 0
    if CHECKPOINT.exists():
        saved = torch.load(CHECKPOINT, weights_only=True)
        plain.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    model = DistributedDataParallel(plain)
    while step < WORK.job.train.steps:
        weight = world / WORK.pieces
        WORK.backward(model, step, rank, world, weight=weight, quiet=model.no_sync)
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        STEPS.done(step, rank=rank, world=world, epoch=call.iteration)
        if step % WORK.job.checkpoint.every == 0:
            if rank == 0:
                whole = {"model": plain.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save({**whole, "step": step}, CHECKPOINT.with_suffix(".new"))
                CHECKPOINT.with_suffix(".new").rename(CHECKPOINT)
            dist.barrier()


train()
