"""Fill a rank's tensors from one checkpoint, all ranks together."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.geometry import Box
from trainer.checkpoint.manifest import Manifest
from trainer.checkpoint.mismatch import (
    NONE_BUT_RANKS_OWN,
    Allowance,
    identity_fault,
    is_moment_of,
    kind_fault,
    names_fault,
)
from trainer.checkpoint.move import Move, moves_of, rows_of
from trainer.checkpoint.movement import carry_out
from trainer.checkpoint.paths import is_of_rank
from trainer.checkpoint.plan import entries_of, group_of
from trainer.checkpoint.sharing import KEY, share, worth_asking
from trainer.checkpoint.store import Store
from trainer.checkpoint.tensors import LocalTensor, in_place, layout_of, put_bytes
from trainer.checkpoint.transfer import Wanted, read
from trainer.errors import CheckpointDamaged, CheckpointMismatch

JSON = Any
MOST_THREADS = 4
Boxes = Sequence[tuple[str, Box]]


@dataclass(frozen=True, slots=True)
class Filled:
    """Bytes that this rank read from storage; what is damaged, the same on every rank.

    `missing` and `unused` are as in `Loaded`.
    """

    bytes: int
    damage: str | None
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def load_manifest(
    exchange: Exchange,
    store: Store,
    manifest: Manifest,
    local: Mapping[str, LocalTensor],
    identity: Mapping[str, JSON] | None,
    host: str,
    allowance: Allowance = NONE_BUT_RANKS_OWN,
) -> Filled:
    """Collective. Read the checkpoint into place; replicas may read a part each and exchange it.

    `host` is where this rank runs. Raises CheckpointMismatch, on every rank, when it is another
    model's, beyond the `allowance`; nothing is read then.
    """
    fault = None if identity is None else identity_fault(manifest.identity, identity)
    kinds = {name: (item.dtype, item.shape) for name, item in local.items()}
    optional = [name for name in local if not allowance.strict or is_of_rank(name)]
    rows = exchange.all_gather(
        [fault or kind_fault(manifest, kinds, allowance.buffers, optional), host]
    )
    fault = _first([row[0] for row in rows])
    unused = _untaken(exchange, manifest, local, allowance.untrained)
    fault = fault or names_fault(
        name for name in unused if allowance.strict and not is_of_rank(name)
    )
    if fault is not None:
        raise CheckpointMismatch(
            f"checkpoint {manifest.attempt} in {store.url} does not fit: {fault}"
        )
    missing = tuple(name for name in optional if name not in manifest.tensors)
    local = {name: item for name, item in local.items() if name in manifest.tensors}
    hosts = [row[1] for row in rows]
    boxes, moves = _my_part(exchange, local, hosts, remote=store.remote)
    threads = MOST_THREADS if store.remote else _threads(hosts.count(host))
    count, damage = 0, None
    try:
        count = read_into(store, manifest, local, boxes, threads=threads)
    except (CheckpointDamaged, OSError) as error:
        damage = str(error)
    damage = _first(exchange.all_gather(damage))
    if moves is not None and damage is None:
        carry_out(
            moves,
            rank=exchange.rank,
            sources={KEY: local},
            target=local,
            device=exchange.device,
            group=exchange.group,
        )
        exchange.confirm()
    return Filled(count, damage, missing, tuple(unused))


def _threads(ranks: int) -> int:
    """How many threads of one of so many ranks read from this host's disk: two to a core in all.

    A disk is served better by several; what is in the page cache, by no more than there are cores.
    """
    return max(1, min(MOST_THREADS, 2 * len(os.sched_getaffinity(0)) // ranks))


def _my_part(
    exchange: Exchange, local: Mapping[str, LocalTensor], hosts: Sequence[str], *, remote: bool
) -> tuple[Boxes, list[Move] | None]:
    """What this rank reads, and how it gets what others read for it: from rank 0's plan.

    The second is None, on every rank, where each reads all that it holds.
    """
    mine = [(name, part.box) for name, item in local.items() for part in item.parts]
    if not worth_asking(hosts, remote=remote):
        return mine, None
    gathered = exchange.gather(layout_of(local))
    answers: list[JSON] | None = None
    if gathered is not None:
        readings = share(
            [[group_of(row) for row in rows] for rows in gathered], hosts, remote=remote
        )
        answers = [None] * len(hosts)
        if readings is not None:
            answers = [[reading.reads, rows_of(reading.moves)] for reading in readings]
    answer = exchange.scatter(answers)
    if answer is None:
        return mine, None
    groups = [group_of(row) for row in answer[0]]
    return [(entry.name, entry.box) for entry in entries_of(groups)], moves_of(answer[1])


def read_into(
    store: Store,
    manifest: Manifest,
    local: Mapping[str, LocalTensor],
    boxes: Boxes,
    *,
    threads: int,
) -> int:
    """Read these boxes of what this rank holds into place. Returns bytes read.

    Raises CheckpointDamaged.
    """
    wanted: list[Wanted] = []
    later: list[Callable[[], None]] = []
    for name, box in boxes:
        view = local[name].view_of(box)
        target = in_place(view)
        if target is None:
            target = np.empty(view.numel() * view.element_size(), dtype=np.uint8)
            later.append(_putter(view, target))
        wanted.append(Wanted(name, box, target))
    count = read(store, manifest, wanted, threads=threads)
    for put in later:
        put()
    return count


def _putter(view: torch.Tensor, data: np.ndarray[Any, Any]) -> Callable[[], None]:
    return lambda: put_bytes(view, data)


def _untaken(
    exchange: Exchange,
    manifest: Manifest,
    local: Mapping[str, LocalTensor],
    untrained: Collection[str],
) -> list[str]:
    names = sorted(manifest.tensors)
    flags = [name in local or is_moment_of(name, untrained) for name in names]
    taken = exchange.any_set(torch.tensor(flags, dtype=torch.uint8)).tolist()
    return [name for name, seen in zip(names, taken, strict=True) if not seen]


def _first(faults: list[str | None]) -> str | None:
    return next((fault for fault in faults if fault is not None), None)
