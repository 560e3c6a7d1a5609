"""What a process compiles ahead of time is what its first generation runs.

1. A block is compiled before there is a generation.
2. A model of four such blocks is trained for a step: nothing more is compiled.
"""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore
from torch._dynamo.utils import counters
from torch.distributed.device_mesh import init_device_mesh

from tests.integration.training.jobs import write_job
from trainer.checkpoint.exchange import Exchange
from trainer.data import open_batches
from trainer.job import Job, load
from trainer.models.factory import build_spec
from trainer.worker.ballot import Wish
from trainer.worker.build import Training
from trainer.worker.rehearsal import DIMS, rehearse
from trainer.worker.step import train_step

CPU = torch.device("cpu")


def one_step(job: Job) -> None:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1, 1, 1, 1), mesh_dim_names=DIMS)
        spec, batches = build_spec(job), open_batches(job, pieces=job.pieces())
        training = Training(job, spec, batches, mesh, CPU, pieces=job.pieces(), generation=1)
        training.initialize(spec)
        exchange = Exchange(0, 1, None)
        train_step(training, wish=Wish(), at=lambda point: None, exchange=exchange)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_first_step_finds_its_code(tmp_path, dropout):
    torch.compiler.reset()
    counters.clear()
    compiled = {"enabled": True, "backend": "eager"}
    path = write_job(tmp_path, compile=compiled, model__dropout=dropout)
    rehearse(f"1:{path}")
    assert counters["stats"]["unique_graphs"] == 1
    one_step(load(path))
    assert counters["stats"]["unique_graphs"] == 1


def test_a_job_that_can_not_be_read_is_left_to_the_generation_to_tell(tmp_path):
    rehearse(f"1:{tmp_path / 'nothing.yaml'}")
    assert not dist.is_initialized()
