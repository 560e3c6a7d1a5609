"""Move parts of tensors between ranks: each reads what it gives, sends it, places what it gets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.distributed as dist

from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.move import Move
from trainer.checkpoint.tensors import Bytes, LocalTensor, put_bytes

ROUND_BYTES = 256 << 20
"""How much one pair of ranks has in flight at once."""

Holdings = Mapping[str, LocalTensor]
"""Tensors by name, each with the parts a rank holds of it."""


def carry_out(
    moves: Sequence[Move],
    *,
    rank: int,
    sources: Mapping[str, Holdings],
    target: Holdings,
    device: torch.device,
    group: dist.ProcessGroup | None = None,
) -> int:
    """Collective: all ranks of the group call it with the same `moves`. Returns bytes received.

    What has arrived counts once the ranks have confirmed it to each other (`Exchange.confirm`, or
    any other exchange): a transfer that is cut may end like one that is whole.

    `sources` holds by key what this rank can give, `target` the tensors to fill; `device` is where
    the group's backend can send from.
    """
    for move in moves:
        if move.source == move.target == rank:
            _put(target, move, sources[move.key][move.name].bytes_of(move.box))
    received = 0
    for batch in _rounds([move for move in moves if move.source != move.target]):
        received += _exchange(batch, rank, sources, target, device, group)
    return received


def _exchange(
    batch: Mapping[tuple[int, int], Sequence[Move]],
    rank: int,
    sources: Mapping[str, Holdings],
    target: Holdings,
    device: torch.device,
    group: dist.ProcessGroup | None,
) -> int:
    works: list[dist.Work | None] = []
    kept: list[torch.Tensor] = []
    incoming: list[tuple[Sequence[Move], torch.Tensor]] = []
    for (source, receiver), moves in sorted(batch.items()):
        if source == rank:
            data = np.concatenate(
                [sources[move.key][move.name].bytes_of(move.box) for move in moves]
            )
            outgoing = torch.from_numpy(data).to(device)
            kept.append(outgoing)
            works.append(dist.isend(outgoing, group=group, group_dst=receiver))
        elif receiver == rank:
            size = sum(_bytes(target, move) for move in moves)
            buffer = torch.empty(size, dtype=torch.uint8, device=device)
            incoming.append((moves, buffer))
            works.append(dist.irecv(buffer, group=group, group_src=source))
    for work in works:
        if work is not None:
            work.wait()
    for moves, buffer in incoming:
        data, position = buffer.cpu().numpy(), 0
        for move in moves:
            size = _bytes(target, move)
            _put(target, move, data[position : position + size])
            position += size
    return sum(buffer.numel() for _, buffer in incoming)


def _rounds(moves: Sequence[Move]) -> list[dict[tuple[int, int], list[Move]]]:
    """Cut the moves so that no pair has more than ROUND_BYTES in flight; alike on every rank.

    Both ends of a move know its tensor's type, but no rank knows every tensor's, so rounds are
    cut by elements as if each were four bytes wide.
    """
    rounds: list[dict[tuple[int, int], list[Move]]] = []
    filled: dict[tuple[int, int], int] = defaultdict(int)
    for move in moves:
        pair = (move.source, move.target)
        index = filled[pair] // ROUND_BYTES
        filled[pair] += 4 * move.box.volume
        while len(rounds) <= index:
            rounds.append(defaultdict(list))
        rounds[index][pair].append(move)
    return rounds


def _bytes(target: Holdings, move: Move) -> int:
    return move.box.volume * ELEMENT_TYPES[target[move.name].dtype].size


def _put(target: Holdings, move: Move, data: Bytes) -> None:
    put_bytes(target[move.name].view_of(move.box), data)
