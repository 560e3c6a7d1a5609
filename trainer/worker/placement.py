"""What torch remembers of this process's place in a mesh, forgotten when the place changes.

Two meshes of one shape are equal to torch, whoever asks. Its caches of how operations on DTensors
are placed hand out the mesh that they saw first, and with it the coordinates that this process had
there: `parameter.detach()` would come out as the shard of another rank. One process keeps one rank
in torch's view of the world; here it may have another in the next generation.

Nor are groups told apart. They are named by counting, so that ranks 0 and 1 have a group of one
name in a mesh of 4 × 2 and of another in one of 2 × 2 × 2; the cached mesh brings the old name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.tensor._redistribute import _gen_transform_infos
from torch.distributed.tensor.debug import _clear_sharding_prop_cache

Dims = Mapping[str, int]


class Placements:
    """Where this process has been, and what torch still knows of it."""

    def __init__(self) -> None:
        self._placements = Places()
        self._code = Places()

    def move_to(self, rank: int, dims: Dims, device: torch.device) -> None:
        """Become `rank` of a mesh of these dims, the innermost last."""
        if self._placements.outdated_by(rank, dims):
            forget_placements(device)
        tensor = dims.get("tp", 1)
        # Code compiled for a tensor-parallel block has its coordinate in the group built in, and
        # the name of the group; other blocks know nothing of the mesh.
        if tensor > 1 and self._code.outdated_by(rank % tensor, dims):
            torch.compiler.reset()


class Places:
    """The places that a cache has been filled at. Torch tells meshes of different sizes apart."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, Dims]] = {}

    def outdated_by(self, rank: int, dims: Dims) -> bool:
        """Whether the cache would give what is wrong at this place, and has to be emptied."""
        size, place = math.prod(dims.values()), (rank, dict(dims))
        moved = any(other != rank for other, _ in self._known.values())
        outdated = moved or self._known.get(size, place) != place
        if outdated:
            self._known.clear()
        self._known[size] = place
        return outdated


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
