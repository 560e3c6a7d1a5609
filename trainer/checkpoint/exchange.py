"""What the ranks of a group tell each other: the one place where a collective's result is believed.

NCCL ends a collective that is cut as if nothing had happened, and what its buffers then hold is
nobody's word. So here, and nowhere else, the host reads what a collective left, by three rules:

1. A rank contributes only after its device is idle and the generation still stands (`settle`): what
   it was given before, by whatever collective, is whole. So whoever has everybody's contribution
   knows that also of everybody else.
2. What was read counts only if the generation still stands once the host has it. An interrupt is
   marked before it strikes (trainer/worker/interrupt.py), so what it has cut is never believed.
3. What was read carries its proof (trainer/checkpoint/proof.py): a neighbour may have been
   interrupted earlier, and hand on what lay in its buffers.

What is too large to be read here (gradients, shards on their way, whole parameters) counts by the
first rule once the next exchange of all its ranks has come through: a step's with its ballot, the
rest with `confirm`. tests/unit/worker/test_collectives.py lists every collective there is.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from trainer.checkpoint.proof import HEADER_BYTES, header, opened, proven_sums, row
from trainer.errors import ContactLost

JSON = Any
FRAME_BYTES = 512
"""What is sent at once, header and all; only what is longer needs a second collective."""

_TURNS: weakref.WeakKeyDictionary[dist.ProcessGroup, int] = weakref.WeakKeyDictionary()
"""How many exchanges each group has seen: the same number on all of its ranks."""


def _always() -> None:
    """Outside of a generation nobody says that it is over."""


class Exchange:
    """Collectives over a process group whose results the host reads; one rank needs no group.

    Every method is collective: all ranks of the group call it in the same order. `stands` raises
    when the generation is over, and comes through, as does what a broken group raises
    (RuntimeError); ContactLost is for what a cut collective left.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        group: dist.ProcessGroup | None,
        *,
        stands: Callable[[], None] = _always,
    ) -> None:
        self.rank = rank
        self.world_size = world_size
        self.group = group
        self._stands = stands

    @property
    def device(self) -> torch.device:
        """Where the group's backend sends from."""
        backend = dist.get_backend_config(self.group)
        if "cpu:" in backend:
            return torch.device("cpu")
        return torch.accelerator.current_accelerator() or torch.device("cpu")

    def settle(self) -> None:
        """Return once all that this rank was given so far is there, and counts. Not collective."""
        if dist.is_initialized() and self.device.type != "cpu":
            torch.accelerator.synchronize()
        self._stands()

    def confirm(self) -> None:
        """Return once what every rank was given so far is there, and counts."""
        if self.world_size > 1:
            self.sum([])

    def gather(self, value: JSON) -> list[JSON] | None:
        """Every rank's value at rank 0, in rank order; None elsewhere."""
        if self.world_size == 1:
            return [value]
        turn, payload = self._turn(), _encoded(value)
        heads = self._all_gather(header(payload, turn=turn, rank=self.rank))
        seals = [opened(head, turn=turn, rank=rank) for rank, head in enumerate(heads)]
        mine = self._sent(payload, max(seal.length for seal in seals))
        rows = [torch.empty_like(mine) for _ in seals] if self.rank == 0 else None
        dist.gather(mine, rows, group=self.group, group_dst=0)
        if rows is None:
            return None
        found = self._read(*rows)
        return [
            _decoded(seal.proven(data[: seal.length]))
            for seal, data in zip(seals, found, strict=True)
        ]

    def all_gather(self, value: JSON) -> list[JSON]:
        """Every rank's value at every rank, in rank order. One collective where all are small."""
        if self.world_size == 1:
            return [value]
        turn, payload = self._turn(), _encoded(value)
        frames = self._all_gather(_frame(payload, turn, self.rank))
        seals = [opened(frame, turn=turn, rank=rank) for rank, frame in enumerate(frames)]
        longest = max(seal.length for seal in seals)
        if longest > FRAME_BYTES - HEADER_BYTES:
            found = self._all_gather(payload.ljust(longest, b"\0"))
        else:
            found = [frame[HEADER_BYTES:] for frame in frames]
        return [
            _decoded(seal.proven(data[: seal.length]))
            for seal, data in zip(seals, found, strict=True)
        ]

    def broadcast(self, value: JSON, *, source: int = 0) -> JSON:
        """The value of rank `source` at every rank."""
        if self.world_size == 1:
            return value
        turn, mine = self._turn(), self.rank == source
        found = self._broadcast(_encoded(value) if mine else None, turn, source)
        return value if mine else _decoded(found)

    def scatter(self, values: Sequence[JSON] | None) -> JSON:
        """`values[rank]` of rank 0's list, at each rank. The other ranks pass None."""
        if self.world_size == 1:
            assert values is not None
            return values[0]
        turn = self._turn()
        payloads = None if values is None else [_encoded(value) for value in values]
        heads = None
        if payloads is not None:
            heads = b"".join(header(p, turn=turn, rank=rank) for rank, p in enumerate(payloads))
        heads = self._broadcast(heads, turn, 0)
        seals = [
            opened(heads[HEADER_BYTES * rank :], turn=turn, rank=rank)
            for rank in range(self.world_size)
        ]
        longest = max(seal.length for seal in seals)
        mine = torch.empty(longest, dtype=torch.uint8, device=self.device)
        rows = None if payloads is None else [self._sent(payload, longest) for payload in payloads]
        dist.scatter(mine, rows, group=self.group, group_src=0)
        seal = seals[self.rank]
        return _decoded(seal.proven(self._read(mine)[0][: seal.length]))

    def sum(self, numbers: Sequence[int]) -> list[int]:
        """Each number summed over all ranks. Every sum has to stay within an int64."""
        turn = self._turn()
        mine = row(numbers, turn=turn, rank=self.rank)
        sums = torch.tensor(mine, dtype=torch.int64, device=self.device)
        dist.all_reduce(sums, group=self.group)
        found = sums.tolist()
        self._stands()
        return proven_sums(found, turn=turn, ranks=self.world_size)

    def largest(self, number: int) -> int:
        """The largest number of any rank, an int64.

        The one result without a proof: it may be used for what the next exchange carries, and
        counts with that.
        """
        self.settle()
        moved = torch.tensor(number, dtype=torch.int64, device=self.device)
        dist.all_reduce(moved, op=dist.ReduceOp.MAX, group=self.group)
        found = int(moved)
        self._stands()
        return found

    def any_set(self, flags: torch.Tensor) -> torch.Tensor:
        """Where any rank's flag is set. `flags`: uint8, one length at every rank."""
        if self.world_size == 1 or flags.numel() == 0:
            return flags
        self.settle()
        moved = flags.to(self.device)
        dist.all_reduce(moved, op=dist.ReduceOp.MAX, group=self.group)
        found = moved.cpu()
        self.confirm()
        return found

    def _turn(self) -> int:
        """The number of the exchange that begins; see the first rule."""
        self.settle()
        group = self.group or dist.group.WORLD
        if group is None:
            raise ContactLost("the process groups are gone: the generation has ended")
        _TURNS[group] = turn = _TURNS.get(group, 0) + 1
        return turn

    def _read(self, *given: torch.Tensor) -> list[bytes]:
        """What a collective left in these; see the second rule."""
        found = [tensor.cpu().numpy().tobytes() for tensor in given]
        self._stands()
        return found

    def _sent(self, data: bytes, length: int) -> torch.Tensor:
        """The bytes, padded, where the group's backend sends from."""
        padded = bytearray(data.ljust(length, b"\0"))
        return torch.frombuffer(padded, dtype=torch.uint8).to(self.device)

    def _all_gather(self, data: bytes) -> list[bytes]:
        """As many bytes of each rank."""
        mine = self._sent(data, len(data))
        rows = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(rows, mine, group=self.group)
        return self._read(*rows)

    def _broadcast(self, data: bytes | None, turn: int, source: int) -> bytes:
        """The bytes of rank `source`; the others pass None."""
        frame = b"" if data is None else _frame(data, turn, source)
        moved = self._sent(frame, FRAME_BYTES)
        dist.broadcast(moved, group=self.group, group_src=source)
        (frame,) = self._read(moved)
        seal = opened(frame, turn=turn, rank=source)
        if seal.length <= FRAME_BYTES - HEADER_BYTES:
            return seal.proven(frame[HEADER_BYTES : HEADER_BYTES + seal.length])
        moved = self._sent(data or b"", seal.length)
        dist.broadcast(moved, group=self.group, group_src=source)
        return seal.proven(self._read(moved)[0])


def _frame(payload: bytes, turn: int, rank: int) -> bytes:
    """A header, and the payload where there is room for it."""
    inline = payload if len(payload) <= FRAME_BYTES - HEADER_BYTES else b""
    return (header(payload, turn=turn, rank=rank) + inline).ljust(FRAME_BYTES, b"\0")


def _encoded(value: JSON) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _decoded(payload: bytes) -> JSON:
    return json.loads(payload)
