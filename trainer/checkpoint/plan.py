"""Who writes what: each box once, spread over the ranks that hold it by bytes. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from trainer.checkpoint.datafile import BoxEntry
from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.geometry import Box, cut_rows
from trainer.errors import CheckpointError

CUT_BYTES = 16 << 20
BLOCK_BYTES = 4 << 20
MAX_BLOCKS = 1 << 20

Held = tuple[str, tuple[int, ...], tuple[Box, ...]]
Layout = Mapping[str, Held]


def assign(layouts: Sequence[Layout]) -> list[list[BoxEntry]]:
    """Who writes what: for each rank, in the order of its file, the boxes it writes.

    `layouts[rank]` tells what the rank holds: name -> (element type, whole shape, boxes). A box
    that several ranks hold is written once; a large one is cut by rows among them. Raises
    CheckpointError when two ranks disagree about a tensor.
    """
    kinds: dict[str, tuple[str, tuple[int, ...], int]] = {}
    holders: dict[tuple[str, Box], list[int]] = {}
    for rank, layout in enumerate(layouts):
        for name, (dtype, shape, boxes) in layout.items():
            kind = kinds.setdefault(name, (dtype, shape, rank))
            if kind[:2] != (dtype, shape):
                raise CheckpointError(
                    f"ranks disagree about {name!r}: rank {kind[2]} has {kind[0]} {list(kind[1])}, "
                    f"rank {rank} has {dtype} {list(shape)}"
                )
            for box in boxes:
                holders.setdefault((name, box), []).append(rank)
    assigned: list[list[BoxEntry]] = [[] for _ in layouts]
    loads = [0] * len(layouts)
    shared: list[tuple[BoxEntry, Sequence[int]]] = []
    for (name, box), ranks in holders.items():
        entry = BoxEntry(name, kinds[name][0], kinds[name][1], box)
        if len(ranks) == 1:
            assigned[ranks[0]].append(entry)
            loads[ranks[0]] += entry.bytes
        else:
            shared.extend((part, ranks) for part in _parts(entry, len(ranks)))
    shared.sort(key=lambda item: (-item[0].bytes, item[0].name, item[0].box))
    _spread(shared, assigned, loads)
    for entries in assigned:
        entries.sort(key=file_order)
    return assigned


def file_order(entry: BoxEntry) -> tuple[int, str, Box]:
    """Wide elements first, so that each box starts at a multiple of its element's size."""
    return -ELEMENT_TYPES[entry.dtype].size, entry.name, entry.box


def _parts(entry: BoxEntry, ranks: int) -> list[BoxEntry]:
    boxes = cut_rows(entry.box, min(ranks, -(-entry.bytes // CUT_BYTES)))
    return [BoxEntry(entry.name, entry.dtype, entry.shape, box) for box in boxes]


def _spread(
    shared: Sequence[tuple[BoxEntry, Sequence[int]]],
    assigned: list[list[BoxEntry]],
    loads: list[int],
) -> None:
    heaps: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for entry, ranks in shared:
        key = tuple(ranks)
        heap = heaps.get(key)
        if heap is None:
            heap = heaps[key] = [(loads[rank], rank) for rank in ranks]
            heapq.heapify(heap)
        load, rank = heap[0]
        while load != loads[rank]:
            heapq.heapreplace(heap, (loads[rank], rank))
            load, rank = heap[0]
        loads[rank] += entry.bytes
        heapq.heapreplace(heap, (loads[rank], rank))
        assigned[rank].append(entry)


def block_bytes(total: int) -> int:
    """Bytes that one checksum covers: 4 MiB, or more where a manifest would grow past a million."""
    return max(BLOCK_BYTES, 1 << (-(-total // MAX_BLOCKS) - 1).bit_length() if total else 0)
