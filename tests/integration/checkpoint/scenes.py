"""What ranks do in the tests of whole meshes: a small model with pp, dp and tp."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import trainer.checkpoint as checkpoint
from trainer.checkpoint import Checkpointer
from trainer.errors import CheckpointError, CheckpointMismatch

LAYERS, WIDTH, INNER = 4, 10, 14


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, INNER)
        self.down = nn.Linear(INNER, WIDTH, bias=False)
        self.norm = nn.RMSNorm(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.down(torch.relu(self.up(self.norm(x))))
        return out


def state_of(
    rank: int, world: int, pp: int, dp: int, tp: int, replicas: int
) -> dict[str, torch.Tensor]:
    """This rank's shards of the parameters, and moments that are known from their names."""
    mesh = init_device_mesh(
        "cpu", (pp, replicas, dp // replicas, tp), mesh_dim_names=("pp", "rep", "shard", "tp")
    )
    coordinate = mesh.get_coordinate()
    assert coordinate is not None
    stage = range(coordinate[0] * LAYERS // pp, (coordinate[0] + 1) * LAYERS // pp)
    layers = nn.ModuleDict({str(index): Layer() for index in stage})
    data = mesh["rep", "shard"] if replicas > 1 else mesh["shard"]
    for layer in layers.values():
        plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
        if tp > 1:
            parallelize_module(layer, mesh["tp"], plan)
        fully_shard(layer, mesh=data)
    state: dict[str, torch.Tensor] = {}
    for name, parameter in layers.named_parameters():
        state[f"model/layers.{name}"] = parameter.detach()
        state[f"optim/layers.{name}/exp_avg"] = torch.zeros_like(parameter.detach())
    return state


def fill(state: dict[str, torch.Tensor]) -> None:
    """Every element gets a value of its name and place, whatever the mesh."""
    for name, tensor in state.items():
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "little")
        whole = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(seed))
        put(tensor, whole)


def put(tensor: torch.Tensor, whole: torch.Tensor) -> None:
    from trainer.checkpoint.geometry import slices
    from trainer.checkpoint.tensors import local_tensor

    for part in local_tensor("t", tensor).parts:
        part.local.copy_(whole[slices(part.box)])


def wrong(state: dict[str, torch.Tensor]) -> list[str]:
    """The names whose local part is not what `fill` would put there."""
    expected = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    fill(expected)
    return [name for name in state if not torch.equal(local(state[name]), local(expected[name]))]


def local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def checkpointer(directory: str, rank: int, world: int, **options: Any) -> Checkpointer:
    return Checkpointer(
        directory,
        identity={"model": "toy"},
        rank=rank,
        world_size=world,
        group=dist.group.WORLD,
        **{"generation": 1, **options},
    )


def save(rank: int, world: int, *, directory: str, mesh: list[int], version: int) -> int:
    state = state_of(rank, world, *mesh)
    fill(state)
    commit = checkpointer(directory, rank, world).save(version, state, {"cursor": version})
    return commit.bytes


def load(rank: int, world: int, *, directory: str, mesh: list[int]) -> dict[str, Any]:
    state = state_of(rank, world, *mesh)
    for tensor in state.values():
        local(tensor).fill_(-1)
    loaded = checkpointer(directory, rank, world, read_only=True).load(state)
    assert loaded is not None
    return {"version": loaded.version, "values": loaded.values, "wrong": wrong(state)}


def stage(rank: int, world: int, *, directory: str, mesh: list[int], staging: str) -> list[str]:
    """Stage two versions, the second with a cached plan and all state for mirrors."""
    state = state_of(rank, world, *mesh)
    fill(state)
    ck = checkpointer(directory, rank, world, staging=Path(staging) / f"slot{rank}")
    descriptions = []
    for version in (10, 20):
        staged = ck.stage(version, state, {"cursor": version}, mirror=version == 20)
        assert staged is not None
        descriptions.append(str(staged.wait()))
    assert ck.stage(30, state, {}, when_busy="skip") is None
    return descriptions


def fail_on_one_rank(rank: int, world: int, *, directory: str) -> list[str]:
    """Every rank hears of what went wrong on one."""
    heard = []
    whole = {"w": torch.ones(4)}
    ck = checkpointer(directory, rank, world)
    try:
        ck.save(1, {"w": torch.ones(4 + rank)}, {})
    except CheckpointError as error:
        heard.append(str(error))
    ck.save(2, whole, {})
    try:
        ck.load({"w": torch.ones(4), **({"x": torch.ones(1)} if rank == 1 else {})})
    except CheckpointMismatch as error:
        heard.append(str(error))
    return heard


def outside_a_job(rank: int, world: int, *, directory: str) -> list[Any]:
    """An FSDP2 model, its optimizer and plain values, by state dicts."""
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1 * (seed + 1))
        for _ in range(seed + 1):
            model(torch.ones(2, 6)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return model, optimizer

    def state(model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> dict[str, Any]:
        tensors, moments = get_state_dict(model, optimizer)
        return {"model": tensors, "optimizer": moments, "epoch": epoch, "by": ("me", b"\x00")}

    first, second = build(1), build(0)
    checkpoint.save(directory, state(*first, epoch=7), version=3)
    found = state(*second, epoch=0)
    loaded = checkpoint.load(directory, found)
    assert loaded is not None
    set_state_dict(*second, model_state_dict=found["model"], optim_state_dict=found["optimizer"])
    losses = []
    for model, optimizer in (first, second):
        for _ in range(3):
            model(torch.ones(2, 6)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(model(torch.ones(2, 6)).sum().item())
    return [loaded.version, found["epoch"], found["by"] == ("me", b"\x00"), losses[0] == losses[1]]


def load_replicas(rank: int, world: int, *, directory: str, hosts: list[str]) -> dict[str, Any]:
    """Save a state that all ranks hold alike, and load it as if they were on these hosts."""
    expected = {f"w{index}": torch.zeros(1024, 2048) for index in range(4)}
    expected |= {"bias": torch.zeros(7), "step": torch.tensor(0)}
    fill(expected)
    checkpointer(directory, rank, world).save(1, expected, {})
    found = {name: torch.full_like(tensor, -1) for name, tensor in expected.items()}
    # What is not in one piece has to be put there another way.
    found["w0"] = torch.full((2048, 1024), -1.0).t()
    reader = checkpointer(directory, rank, world, read_only=True, host=hosts[rank])
    loaded = reader.load(found)
    assert loaded is not None
    return {"bytes": loaded.bytes, "wrong": wrong(found)}


def load_damaged_replicas(rank: int, world: int, *, directory: str, hosts: list[str]) -> list[Any]:
    """Save twice, alter a byte that one rank alone will read, and load as if on these hosts."""
    first = {"w": torch.zeros(2048, 2048), "v": torch.zeros(2048, 1024)}
    fill(first)
    writer = checkpointer(directory, rank, world)
    writer.save(1, first, {})
    writer.save(2, {name: tensor + 1 for name, tensor in first.items()}, {})
    if rank == 0:
        *_, last = sorted(Path(directory).glob("data/v00000002-*/*.safetensors"))
        data = bytearray(last.read_bytes())
        data[-1] ^= 1
        last.write_bytes(data)
    dist.barrier()
    found = {name: torch.full_like(tensor, -1) for name, tensor in first.items()}
    loaded = checkpointer(directory, rank, world, read_only=True, host=hosts[rank]).load(found)
    assert loaded is not None
    return [loaded.version, len(loaded.damaged), wrong(found)]
