"""What a rank holds of each tensor, and its bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.geometry import Box, Cut, intersect, local_parts, whole, within
from trainer.checkpoint.outcome import failure
from trainer.checkpoint.plan import Group, grouped
from trainer.errors import CheckpointError

JSON = Any
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Part:
    """A box that this rank holds, and the view of its local tensor that is it."""

    box: Box
    local: torch.Tensor


@dataclass(frozen=True, slots=True)
class LocalTensor:
    """One named tensor as this rank holds it: element type, whole shape, parts."""

    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    def bytes_of(self, box: Box) -> Bytes:
        """The bytes of a box that lies within one of the parts, row by row."""
        return host_bytes(self.view_of(box))

    def view_of(self, box: Box) -> torch.Tensor:
        """The view of the local tensor that is a box, which lies within one of the parts."""
        part = next(part for part in self.parts if intersect(part.box, box) == box)
        view = part.local
        for dim, (offset, size) in enumerate(zip(*within(box, part.box), strict=True)):
            view = view.narrow(dim, offset, size)
        return view


def cuts_of(placements: Sequence[Placement], name: str) -> list[Cut | None]:
    """The placements as cuts. Raises CheckpointError for one that holds no part of the tensor."""
    cuts: list[Cut | None] = []
    for placement in placements:
        if isinstance(placement, _StridedShard):
            cuts.append(Cut(placement.dim, int(placement.split_factor)))
        elif isinstance(placement, Shard):
            cuts.append(Cut(placement.dim))
        elif isinstance(placement, Replicate):
            cuts.append(None)
        else:
            raise CheckpointError(f"{name!r} is placed as {placement}: reduce it before saving it")
    return cuts


def local_tensor(name: str, tensor: torch.Tensor) -> LocalTensor:
    """What this rank holds of a tensor. A plain tensor is whole, and alike on all that have it.

    Raises CheckpointError for an element type or a layout that can't be saved.
    """
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in ELEMENT_TYPES or tensor.layout is not torch.strided:
        raise CheckpointError(
            f"{name!r} is a {tensor.layout} tensor of {dtype}, which has no place here"
        )
    if tensor.is_meta:
        raise CheckpointError(f"{name!r} is on the meta device: it has no values")
    shape = tuple(tensor.shape)
    with torch.no_grad():
        if not isinstance(tensor, DTensor):
            parts = [(whole(shape), (0,) * len(shape))] if tensor.numel() else []
            local = tensor.detach()
        else:
            mesh = tensor.device_mesh
            coordinate = mesh.get_coordinate()
            cuts = cuts_of(tensor.placements, name)
            parts = [] if coordinate is None else local_parts(shape, mesh.shape, coordinate, cuts)
            local = tensor.to_local().detach()
    return LocalTensor(dtype, shape, tuple(_part(local, box, start) for box, start in parts))


def _part(local: torch.Tensor, box: Box, start: tuple[int, ...]) -> Part:
    view = local
    for dim, (offset, size) in enumerate(zip(start, box.sizes, strict=True)):
        view = view.narrow(dim, offset, size)
    return Part(box, view)


def local_tensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, LocalTensor]:
    """`local_tensor` of each."""
    return {name: local_tensor(name, tensor) for name, tensor in tensors.items()}


def looked_at(tensors: Mapping[str, torch.Tensor]) -> tuple[Mapping[str, LocalTensor], JSON]:
    """`local_tensor` of each; or nothing, and why, for all ranks to hear: see outcome.py."""
    try:
        return local_tensors(tensors), None
    except CheckpointError as error:
        return {}, failure(error)


def layout_of(local: Mapping[str, LocalTensor]) -> list[Group]:
    """What this rank holds, without the tensors."""
    return grouped(
        {
            name: (item.dtype, item.shape, tuple(part.box for part in item.parts))
            for name, item in local.items()
        }
    )


def in_place(view: torch.Tensor) -> Bytes | None:
    """The view's own memory as bytes, or None when it is not one piece of host memory."""
    if view.device.type != "cpu" or not view.is_contiguous() or view.is_conj() or view.is_neg():
        return None
    return _as_bytes(view)


def host_bytes(view: torch.Tensor) -> Bytes:
    """The view's bytes, row by row: its own memory where that is possible, else a copy."""
    mine = in_place(view)
    if mine is not None:
        return mine
    return _as_bytes(view.resolve_conj().resolve_neg().cpu().contiguous())


def put_bytes(view: torch.Tensor, data: Bytes) -> None:
    """Copy bytes, row by row, into the view. `data` may be reused when this returns."""
    source = torch.from_numpy(data).view(view.dtype).view(view.shape)
    with torch.no_grad():
        view.copy_(source)


def _as_bytes(view: torch.Tensor) -> Bytes:
    flat = view.reshape(-1)
    if flat.numel() == 1:
        # Contiguous whatever its stride, but bytes want a stride of one element.
        flat = flat.as_strided((1,), (1,))
    flat = flat.view(torch.uint8)
    array: Bytes = flat.numpy()
    return array
