"""A reduce-scatter that adds in piece order, whatever the number of ranks.

A ring reduce-scatter adds in an order that depends on who takes part, so its last bits change
with the world size. Here every rank sends each owner its own chunk (an all-to-all: as many
bytes as the ring) and the owner adds the chunks one by one, piece 0 first.

FSDP2 calls one of these for each of its parameter groups (`set_custom_reduce_scatter`). Its
contract has three edges that shape this file:

- FSDP2 adds what we return to a sharded `.grad` that is already there, so the sum over rounds
  lives here and the caller clears the sharded gradients before each round (`begin`);
- over a shard group of one it never calls us and adds round by round itself, which is already
  piece order; only replicas are left to fold, from its all-reduce hook (`fold_replicas`);
- replicas are unknown to FSDP2 (it gets the one-dimensional shard mesh), so that their chunks
  meet here in piece order too, and not in a ring.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch.distributed.fsdp._fully_shard._fsdp_api import ReduceScatter
from torch.distributed.fsdp._fully_shard._fsdp_collectives import DefaultAllocMixin


class PieceFold(DefaultAllocMixin, ReduceScatter):
    """The ordered fold of one FSDP parameter group.

    `replicas` is the process group over `dp_replicate`, or None where there is one replica.
    The data-parallel rank order is replica-major: rank = replica x shards + shard.
    """

    def __init__(self, replicas: dist.ProcessGroup | None) -> None:
        self._replicas = replicas
        self._running: torch.Tensor | None = None
        self._live = 0

    def begin(self, live: int, *, first: bool) -> None:
        """A round begins in which the first `live` data-parallel ranks hold a piece."""
        self._live = live
        if first:
            self._running = None

    def __call__(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        group: dist.ProcessGroup,
        op: object,
        async_op: bool = False,
    ) -> dist.Work | None:
        """`input_tensor`: [shards x chunk], mine for everybody; `output_tensor`: [chunk]."""
        shards = group.size()
        received = torch.empty_like(input_tensor)
        dist.all_to_all_single(received, input_tensor, group=group)
        chunks = received.view(shards, -1)
        self._fold(self._across_replicas(chunks), output_tensor)
        return None

    def fold_replicas(self, reduced: torch.Tensor) -> None:
        """All-reduce hook for a shard group of one: `reduced` [chunk] is mine, folded in place."""
        self._fold(self._across_replicas(reduced.view(1, -1)), reduced)

    def _across_replicas(self, chunks: torch.Tensor) -> Sequence[torch.Tensor]:
        """[shards, chunk] of this replica -> the chunk of each data-parallel rank, in order."""
        if self._replicas is None:
            return chunks.unbind(0)
        shards, chunk = chunks.shape
        gathered = chunks.new_empty((self._replicas.size() * shards, chunk))
        dist.all_gather_into_tensor(gathered, chunks.contiguous(), group=self._replicas)
        return gathered.unbind(0)

    def _fold(self, chunks: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        live = list(chunks[: self._live])
        if self._running is None:
            self._running = live.pop(0).clone()
        for chunk in live:
            self._running += chunk
        output.copy_(self._running)
