"""Build and compile the job's blocks beforehand, so that no generation waits for a newcomer's code.

A standby, and the workers of a joining node, do this before they say that they are ready. Dynamo
keeps what it compiled for as long as the process lives, and every generation's blocks find it.
Where nothing is compiled, a block without memory is built: a third of what a process's first one
takes is code that torch loads, and tables that it fills, when they are first asked for. The files
of the corpus are found, too; a user's own dataset is left alone until it is needed.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import init_device_mesh

from trainer.data.corpus import open_corpus
from trainer.errors import JobError
from trainer.job import Job, load
from trainer.models.factory import build_spec
from trainer.models.spec import Stage
from trainer.parallel.apply import prepare_stage
from trainer.parallel.materialize import materialize
from trainer.parallel.shard import torch_dtype
from trainer.worker.groups import local_device

DIMS = ("pp", "dp_replicate", "dp_shard", "tp")

log = logging.getLogger(__name__)


def rehearse(asked: str) -> None:
    """Prepare for the job that `asked` names, as REHEARSAL_VARIABLE does.

    What is wrong with the job is told when a generation begins, and only noted here.
    """
    slots, _, path = asked.partition(":")
    try:
        job = load(Path(path))
        if job.data.factory is None:
            open_corpus(job.data.path)
        run_one_block(job, local_device(0), pieces=job.pieces(int(slots)))
    except (JobError, RuntimeError, OSError) as error:
        log.warning("the job could not be prepared ahead of time: %s", error)


def run_one_block(job: Job, device: torch.device, *, pieces: int) -> None:
    """As a generation would, on a mesh of this process alone, with a model of one block.

    Nothing is done where that is not possible: a model that can't be cut into stages may be too
    large for one process, and tensor-parallel code is made for its mesh.
    """
    spec = build_spec(job)
    if job.parallel.tensor > 1 or spec.stages == 1:
        return
    stage = Stage(index=spec.stages // 2, count=spec.stages)
    samples = job.train.samples_per_microbatch(pieces)
    dist.init_process_group(
        dist.get_default_backend_for_device(device), store=HashStore(), rank=0, world_size=1
    )
    try:
        mesh = init_device_mesh(device.type, (1, 1, 1, 1), mesh_dim_names=DIMS)
        module = prepare_stage(spec, job, mesh, stage).module
        if not job.compile.enabled:
            module.to_empty(device="meta")
            return
        where = torch.device("cpu") if job.parallel.cpu_offload else device
        materialize(module, spec, where=where, device=device, seed=job.run.seed)
        module.train()
        hidden = torch.zeros(
            (samples, job.data.seq_len, spec.hidden_size),
            dtype=torch_dtype(job.parallel.param_dtype),
            device=device,
            requires_grad=True,
        )
        keys = torch.zeros(samples, dtype=torch.int64, device=device)
        module(hidden, keys).float().sum().backward()
    finally:
        dist.destroy_process_group()
