"""What ranks do with the reference model and AdamW, in one mesh after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from trainer.checkpoint import Checkpointer
from trainer.checkpoint.catalog import find
from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.geometry import Box, slices
from trainer.checkpoint.tensors import host_bytes, local_tensors
from trainer.data import open_batches
from trainer.job import load
from trainer.models.factory import build_spec
from trainer.worker.ballot import Wish
from trainer.worker.build import Training
from trainer.worker.placement import THIS_PROCESS
from trainer.worker.step import train_step

Mesh = list[int]


def training(job_path: str, mesh: Mesh) -> Training:
    """The job's training over a mesh: pp, dp, tp, and how many replicas there are among dp."""
    pp, dp, tp, replicas = mesh
    job = load(
        Path(job_path),
        [
            f"parallel.pipeline={pp}",
            f"parallel.data={dp}",
            f"parallel.tensor={tp}",
            f"parallel.replicate={replicas}",
        ],
    )
    dims = {"pp": pp, "dp_replicate": replicas, "dp_shard": dp // replicas, "tp": tp}
    cpu = torch.device("cpu")
    THIS_PROCESS.move_to(dist.get_rank(), dims, cpu)
    ranks = init_device_mesh("cpu", tuple(dims.values()), mesh_dim_names=tuple(dims))
    pieces = job.pieces(pp * dp * tp)
    batches = open_batches(job, pieces=pieces)
    return Training(job, build_spec(job), batches, ranks, cpu, pieces=pieces, generation=1)


def steps(trained: Training, count: int) -> list[float]:
    """Train; the loss of each step."""
    exchange = Exchange(dist.get_rank(), dist.get_world_size(), None)
    return [
        train_step(trained, wish=Wish(), at=lambda _: None, exchange=exchange).verdict.loss
        for _ in range(count)
    ]


def begin(rank: int, world: int, *, job: str, directory: str) -> list[float]:
    """The state that all meshes are given: three steps from the first weights."""
    trained = training(job, [1, 1, 1, 1])
    trained.initialize(build_spec(trained.job))
    losses = steps(trained, 3)
    save(trained, rank, world, directory)
    return losses


def save(trained: Training, rank: int, world: int, directory: str) -> None:
    checkpointer(directory, rank, world).save(
        trained.state.version, trained.state.tensors(), trained.state.values()
    )


def fill(trained: Training, rank: int, world: int, directory: str) -> None:
    """Load over a state in which nothing is as it should be."""
    for tensor in trained.state.local.values():
        for part in tensor.parts:
            part.local.fill_(-1)
    loaded = checkpointer(directory, rank, world, read_only=True).load(trained.state.tensors())
    assert loaded is not None
    trained.state.become(loaded.version, loaded.values)


def checkpointer(directory: str, rank: int, world: int, *, read_only: bool = False) -> Checkpointer:
    return Checkpointer(
        directory,
        identity={},
        rank=rank,
        world_size=world,
        generation=1,
        group=dist.group.WORLD,
        read_only=read_only,
    )


def rewrite(rank: int, world: int, *, job: str, mesh: Mesh, source: str, directory: str) -> None:
    """Load in this mesh, and save in it."""
    trained = training(job, mesh)
    fill(trained, rank, world, source)
    save(trained, rank, world, directory)


def go_on(
    rank: int, world: int, *, job: str, mesh: Mesh, first: str, directories: list[str]
) -> tuple[list[str], list[float]]:
    """Load each checkpoint in this mesh; those whose bits are not the first's; five more losses."""
    trained = training(job, mesh)
    whole = read_alone(first)
    odd = []
    for directory in directories:
        fill(trained, rank, world, directory)
        if sha256(held(trained)) != sha256(cut(trained, whole)) or trained.state.version != 3:
            odd.append(directory)
    return odd, steps(trained, 5)


def read_alone(directory: str) -> dict[str, torch.Tensor]:
    """A checkpoint as whole tensors, read by one process."""
    whole = {
        name: torch.empty(record.shape, dtype=getattr(torch, record.dtype))
        for name, record in find(directory).manifest.tensors.items()
    }
    reader = Checkpointer(
        directory, identity={}, rank=0, world_size=1, generation=1, read_only=True
    )
    assert reader.load(whole) is not None
    return whole


Bits = tuple[str, Box, np.ndarray]


def held(trained: Training) -> Iterator[Bits]:
    for name, tensor in sorted(local_tensors(trained.state.tensors()).items()):
        for part in tensor.parts:
            yield name, part.box, host_bytes(part.local)


def cut(trained: Training, whole: Mapping[str, torch.Tensor]) -> Iterator[Bits]:
    """The same parts of whole tensors."""
    for name, tensor in sorted(trained.state.local.items()):
        for part in tensor.parts:
            yield name, part.box, host_bytes(whole[name][slices(part.box)].contiguous())


def sha256(parts: Iterator[Bits]) -> str:
    """Over each part's name, place and bits."""
    hasher = hashlib.sha256()
    for name, box, data in parts:
        hasher.update(f"{name}\0{box}\0".encode())
        hasher.update(data.data)
    return hasher.hexdigest()
