"""FSDP2 over a model part: its blocks one by one, then what is left as the root."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)

from trainer.exact import PieceFold
from trainer.job import ParallelSection


def shard(
    part: nn.Module,
    blocks: Iterable[nn.Module],
    mesh: DeviceMesh,
    section: ParallelSection,
    *,
    exact: bool,
) -> list[PieceFold]:
    """Shard `part` in place; return the fold of each parameter group (none unless `exact`).

    Gradients are summed, never averaged: the loss is divided beforehand, by the size of the
    whole global batch, so that the sum does not depend on the number of ranks.
    """
    replicas = mesh["dp_replicate"]
    fold_replicas = replicas.get_group() if exact and replicas.size() > 1 else None
    fsdp_mesh = (
        mesh["dp_shard"] if exact or replicas.size() == 1 else mesh["dp_replicate", "dp_shard"]
    )
    precision = MixedPrecisionPolicy(
        param_dtype=torch_dtype(section.param_dtype), reduce_dtype=torch_dtype(section.reduce_dtype)
    )
    offload = CPUOffloadPolicy() if section.cpu_offload else OffloadPolicy()
    reshard = reshard_after_forward(section.reshard_after_forward, pipelined=mesh["pp"].size() > 1)
    for module in (*blocks, part):
        fully_shard(
            module,
            mesh=fsdp_mesh,
            mp_policy=precision,
            offload_policy=offload,
            reshard_after_forward=reshard,
        )
    groups = [module for module in part.modules() if isinstance(module, FSDPModule)]
    for group in groups:
        group.set_gradient_divide_factor(1.0)
        group.set_force_sum_reduction_for_comms(True)
    if not exact or mesh["dp_shard"].size() * replicas.size() == 1:
        return []
    return [_fold_in_order(group, fold_replicas, mesh["dp_shard"].size()) for group in groups]


def _fold_in_order(group: FSDPModule, replicas: dist.ProcessGroup | None, shards: int) -> PieceFold:
    fold = PieceFold(replicas)
    group.set_custom_reduce_scatter(fold)
    if shards == 1:
        group.set_all_reduce_hook(fold.fold_replicas)
    return fold


def reshard_after_forward(policy: str, *, pipelined: bool) -> bool:
    """`auto` keeps a pipeline's parameters whole between microbatches: each would gather again."""
    return not pipelined if policy == "auto" else policy == "always"


def torch_dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype
