"""What torch remembers of this process's place in a mesh, forgotten when the place changes.

Two meshes of one shape are equal to torch, whoever asks. Its caches of how operations on DTensors
are placed hand out the mesh that they saw first, and with it the coordinates that this process had
there: `parameter.detach()` would come out as the shard of another rank. One process keeps one rank
in torch's view of the world; here it may have another in the next generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.tensor._redistribute import _gen_transform_infos
from torch.distributed.tensor.debug import _clear_sharding_prop_cache


@dataclass(slots=True)
class Placements:
    """What this process was in its last generation: a rank, and one of a tensor group."""

    rank: int | None = None
    tensor_rank: int | None = None

    def move_to(self, rank: int, tensor: int, device: torch.device) -> None:
        """Become `rank` of a mesh whose innermost groups have `tensor` ranks."""
        tensor_rank = rank % tensor
        if self.rank not in (None, rank):
            forget_placements(device)
        if tensor > 1 and self.tensor_rank not in (None, tensor_rank):
            # Code compiled for a tensor-parallel block has its coordinates built in.
            torch.compiler.reset()
        self.rank, self.tensor_rank = rank, tensor_rank


THIS_PROCESS = Placements()
"""Torch's caches belong to the process, whatever it trains."""


def forget_placements(device: torch.device) -> None:
    """Empty the caches of this thread, and of the one that runs `device`'s backward passes."""
    _forget()
    if device.type != "cpu":
        probe = torch.zeros((), device=device, requires_grad=True)
        forgotten: torch.Tensor = _ForgetInBackward.apply(probe)  # type: ignore[no-untyped-call]
        forgotten.backward()  # type: ignore[no-untyped-call]


def _forget() -> None:
    _clear_sharding_prop_cache()  # type: ignore[no-untyped-call]
    _gen_transform_infos.cache_clear()


class _ForgetInBackward(torch.autograd.Function):
    """The caches are a thread's own, and a device's backward passes have a thread of their own."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        _forget()
        return gradients[0]
