"""Metadata between the ranks of a group: JSON as bytes, never pickled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

JSON = Any
FRAME_BYTES = 512


class Exchange:
    """Collectives on JSON over a process group; with one rank, no group is needed.

    Every method is collective: all ranks of the group call it in the same order. What a broken
    group raises (RuntimeError) comes through.
    """

    def __init__(self, rank: int, world_size: int, group: dist.ProcessGroup | None) -> None:
        self.rank = rank
        self.world_size = world_size
        self.group = group

    @property
    def device(self) -> torch.device:
        """Where the group's backend sends from."""
        backend = dist.get_backend_config(self.group)
        if "cpu:" in backend:
            return torch.device("cpu")
        return torch.accelerator.current_accelerator() or torch.device("cpu")

    def gather(self, value: JSON) -> list[JSON] | None:
        """Every rank's value at rank 0, in rank order; None elsewhere."""
        if self.world_size == 1:
            return [value]
        mine, lengths = self._framed(value)
        rows = [torch.empty_like(mine) for _ in range(self.world_size)] if self.rank == 0 else None
        dist.gather(mine, rows, group=self.group, group_dst=0)
        if rows is None:
            return None
        return [_decoded(row[:length]) for row, length in zip(rows, lengths, strict=True)]

    def all_gather(self, value: JSON) -> list[JSON]:
        """Every rank's value at every rank, in rank order. One collective where all are small."""
        if self.world_size == 1:
            return [value]
        device = self.device
        payload = _encoded(value)
        frame = torch.zeros(FRAME_BYTES, dtype=torch.uint8)
        frame[:8] = torch.tensor([payload.numel()]).view(torch.uint8)
        if payload.numel() <= FRAME_BYTES - 8:
            frame[8 : 8 + payload.numel()] = payload
        mine = frame.to(device)
        frames = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(frames, mine, group=self.group)
        received = [frame.cpu() for frame in frames]
        lengths = [int(frame[:8].view(torch.int64)) for frame in received]
        if max(lengths) <= FRAME_BYTES - 8:
            pairs = zip(received, lengths, strict=True)
            return [_decoded(frame[8 : 8 + length]) for frame, length in pairs]
        mine = torch.nn.functional.pad(payload, (0, max(lengths) - payload.numel())).to(device)
        rows = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(rows, mine, group=self.group)
        return [_decoded(row[:length]) for row, length in zip(rows, lengths, strict=True)]

    def broadcast(self, value: JSON, *, source: int = 0) -> JSON:
        """The value of rank `source` at every rank."""
        if self.world_size == 1:
            return value
        device = self.device
        payload = _encoded(value).to(device) if self.rank == source else None
        length = torch.tensor([0 if payload is None else payload.numel()], device=device)
        dist.broadcast(length, group=self.group, group_src=source)
        if payload is None:
            payload = torch.empty(int(length), dtype=torch.uint8, device=device)
        dist.broadcast(payload, group=self.group, group_src=source)
        return value if self.rank == source else _decoded(payload)

    def scatter(self, values: Sequence[JSON] | None) -> JSON:
        """`values[rank]` of rank 0's list, at each rank. The other ranks pass None."""
        if self.world_size == 1:
            assert values is not None
            return values[0]
        device = self.device
        rows: list[torch.Tensor] | None = None
        lengths = torch.zeros(self.world_size, dtype=torch.int64, device=device)
        if values is not None:
            payloads = [_encoded(value) for value in values]
            lengths = torch.tensor([payload.numel() for payload in payloads], device=device)
            longest = int(lengths.max())
            rows = [
                torch.nn.functional.pad(payload, (0, longest - payload.numel())).to(device)
                for payload in payloads
            ]
        dist.broadcast(lengths, group=self.group, group_src=0)
        mine = torch.empty(int(lengths.max()), dtype=torch.uint8, device=device)
        dist.scatter(mine, rows, group=self.group, group_src=0)
        return _decoded(mine[: int(lengths[self.rank])])

    def any_set(self, flags: torch.Tensor) -> torch.Tensor:
        """Where any rank's flag is set. `flags`: uint8, one length at every rank."""
        if self.world_size == 1 or flags.numel() == 0:
            return flags
        moved = flags.to(self.device)
        dist.all_reduce(moved, op=dist.ReduceOp.MAX, group=self.group)
        return moved.cpu()

    def _framed(self, value: JSON) -> tuple[torch.Tensor, list[int]]:
        device = self.device
        payload = _encoded(value)
        lengths = torch.empty(self.world_size, dtype=torch.int64, device=device)
        mine = torch.tensor(payload.numel(), device=device)
        dist.all_gather(list(lengths.unbind()), mine, group=self.group)
        padded = torch.zeros(int(lengths.max()), dtype=torch.uint8)
        padded[: payload.numel()] = payload
        return padded.to(device), lengths.tolist()


def _encoded(value: JSON) -> torch.Tensor:
    data = bytearray(json.dumps(value, separators=(",", ":")).encode())
    return torch.frombuffer(data, dtype=torch.uint8)


def _decoded(payload: torch.Tensor) -> JSON:
    return json.loads(payload.cpu().numpy().tobytes())
