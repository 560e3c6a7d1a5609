"""Whose buffers count, where ranks see different samples: those of a stage's first rank.

After the pieces of a step, and before the step is agreed on, every data-parallel rank gets the
changed buffers of the first (as torch's DDP does it before each forward), and every
tensor-parallel rank those that are not cut among them. So the state has one value of each, whoever
is lost, and who has agreed on a step has all that the step makes.

What ranks have seen to change is theirs to find out together: a buffer that never changes costs a
comparison on each rank, and one flag in a small all-reduce.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate

from trainer.models.buffers import Snapshot, as_bytes, differ
from trainer.worker.buffers import ModelBuffers

DATA_DIMS = ("dp_shard", "dp_replicate")

Why = Literal["ranks", "forwards", "passing"]
"""A buffer depends on which samples a rank sees; on how many forwards it does; is not persistent
and changes all the same."""


class Change(NamedTuple):
    """A buffer that a forward changes, seen for the first time in this generation."""

    name: str
    why: Why


class BufferSharing:
    """One rank's part in it, for one generation."""

    def __init__(
        self,
        buffers: ModelBuffers,
        parts: Sequence[nn.Module],
        mesh: DeviceMesh,
        device: torch.device,
    ) -> None:
        self._buffers = buffers
        self._parts = parts
        self._mesh = mesh
        self._device = device
        self._data_dims = [dim for dim in DATA_DIMS if mesh[dim].size() > 1]
        self._dims = [*self._data_dims, *(["tp"] if mesh["tp"].size() > 1 else [])]
        self._passing: Snapshot | None = None
        """What was not persistent before the generation's first step; None once that is done."""
        self._steps = 0
        """How many steps' buffers have been shared in this generation."""

    def begin_step(self) -> None:
        """The next forward is a step's first."""
        if self._steps == 0:
            self._passing = self._buffers.watch_passing()

    def share(self) -> list[Change]:
        """All ranks get what the forwards of the step have made of the buffers.

        Collective over a stage. Returns what has been seen to change for the first time. Raises
        JobError, naming it, for a buffer that can't be state.
        """
        buffers, first_time = self._buffers, self._steps == 0
        self._steps += 1
        buffers.check(self._parts if first_time else ())
        changing = set(buffers.changing)
        still = [name for name in buffers.kept if name not in changing]
        flags = self._any(buffers.changed(still))
        fresh = [name for name, flag in zip(still, flags, strict=True) if flag]
        buffers.changing += fresh
        alike = self._from_first_rank(buffers.changing)
        differing = self._any([not alike[name] for name in fresh])
        found = [
            Change(name, "ranks" if flag else "forwards")
            for name, flag in zip(fresh, differing, strict=True)
        ]
        if self._passing is not None:
            found += [Change(name, "passing") for name in self._passing.changed()]
            self._passing = None
        return found

    def _any(self, flags: Sequence[bool]) -> list[bool]:
        """Where any rank of the stage has set its flag."""
        if not flags or not self._dims:
            return list(flags)
        found = torch.tensor(flags, dtype=torch.uint8, device=self._device)
        for dim in self._dims:
            dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self._mesh[dim].get_group())
        return [bool(flag) for flag in found.tolist()]

    def _from_first_rank(self, names: Sequence[str]) -> dict[str, bool]:
        """Fill the live buffers with the first rank's; whether each was like that already."""
        alike = dict.fromkeys(names, True)
        cut = {name for name in names if _is_cut(self._buffers.kept[name])}
        for dims, of_dims in (
            (self._dims, [name for name in names if name not in cut]),
            (self._data_dims, [name for name in names if name in cut]),
        ):
            if not dims or not of_dims:
                continue
            mine = [as_bytes(self._buffers.live(name)).to(self._device) for name in of_dims]
            packed = torch.cat(mine)
            for dim in dims:
                dist.broadcast(packed, group=self._mesh[dim].get_group(), group_src=0)
            theirs = torch.split(packed, [data.numel() for data in mine])
            flags = differ(list(zip(mine, theirs, strict=True)))
            for name, data, flag in zip(of_dims, theirs, flags, strict=True):
                if flag:
                    alike[name] = False
                    self._buffers.fill(name, data)
        return alike


def _is_cut(buffer: Tensor) -> bool:
    """Whether tensor-parallel ranks hold different elements of it."""
    return isinstance(buffer, DTensor) and not all(
        isinstance(placement, Replicate) for placement in buffer.placements
    )
