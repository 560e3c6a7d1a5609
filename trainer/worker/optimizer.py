"""The optimizer over a rank's shards, and its state as named tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from trainer.errors import JobError
from trainer.job import OptimizerSection

MOMENTS = ("exp_avg", "exp_avg_sq")


def make_optimizer(
    section: OptimizerSection, shards: Mapping[str, Tensor], device: torch.device
) -> torch.optim.AdamW:
    """AdamW; matrices decay, vectors (norms, biases) don't. Its state exists from the start.

    Every element is updated by itself, so the shards are plain tensors here: a DTensor's way to
    each operation costs more than the operation, and a process's first step a third of a second.
    Raises JobError where there is nothing to update.
    """
    if not shards:
        raise JobError("nothing can be trained: every parameter of the model is frozen")
    matrices = [shard for shard in shards.values() if shard.ndim >= 2]
    vectors = [shard for shard in shards.values() if shard.ndim < 2]
    fused = device.type == "cuda" if section.fused == "auto" else section.fused
    optimizer = torch.optim.AdamW(
        [
            {"params": group, "weight_decay": decay}
            for group, decay in ((matrices, section.weight_decay), (vectors, 0.0))
            if group
        ],
        lr=section.lr,
        betas=section.betas,
        eps=section.eps,
        fused=fused,
        foreach=None if fused else True,
    )
    for shard in shards.values():
        optimizer.state[shard] = {
            "step": torch.zeros((), dtype=torch.float32, device=device if fused else "cpu"),
            **{moment: torch.zeros_like(shard) for moment in MOMENTS},
        }
    return optimizer


def optimizer_tensors(
    optimizer: torch.optim.AdamW,
    shards: Mapping[str, Tensor],
    parameters: Mapping[str, nn.Parameter],
) -> Iterator[tuple[str, Tensor]]:
    """The moments, named after their parameter, so that no mesh can mix them up, and placed as
    it is. What is frozen has no shard here, and no moments."""
    for name, shard in shards.items():
        for moment in MOMENTS:
            yield f"{name}/{moment}", placed_as(parameters[name], optimizer.state[shard][moment])


def placed_as(parameter: Tensor, shard: Tensor) -> Tensor:
    """The tensor of which this rank holds `shard`, cut as `parameter` (or a buffer) is."""
    if not isinstance(parameter, DTensor):
        return shard
    return DTensor.from_local(
        shard,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def set_optimizer_step(optimizer: torch.optim.AdamW, step: int) -> None:
    """Every parameter has seen this many updates."""
    for state in optimizer.state.values():
        state["step"].fill_(float(step))
