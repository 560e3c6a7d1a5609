"""Who writes what: each box once, spread over the ranks that hold it by bytes. Pure.

Tensors that a rank holds alike (the same layer's weight in eight layers, and its moments) are
planned as one group, so that a plan for thousands of ranks takes seconds.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from trainer.checkpoint.datafile import BoxEntry
from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.geometry import Box, cut_rows
from trainer.errors import CheckpointError

LEAST_CUT = 4 << 20
CUTS_OF_SHARE = 32
BLOCK_BYTES = 4 << 20
MAX_BLOCKS = 1 << 20

Held = tuple[str, tuple[int, ...], tuple[Box, ...]]
Names = tuple[str, ...]


class Group(NamedTuple):
    """Tensors of one element type and shape, of which a rank holds, or writes, the same boxes."""

    dtype: str
    shape: tuple[int, ...]
    boxes: tuple[Box, ...]
    names: Names


class Family(NamedTuple):
    """One box of a group of tensors, and the ranks that hold it."""

    dtype: str
    shape: tuple[int, ...]
    box: Box
    names: Names
    ranks: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Of one of the tensors."""
        return math.prod(self.box.sizes) * ELEMENT_TYPES[self.dtype].size

    @property
    def group(self) -> Group:
        """The same without its holders."""
        return Group(self.dtype, self.shape, (self.box,), self.names)


def grouped(held: Mapping[str, Held]) -> list[Group]:
    """What a rank holds (name -> element type, whole shape, boxes), alike ones together."""
    groups: dict[Held, list[str]] = {}
    for name, kind in held.items():
        groups.setdefault(kind, []).append(name)
    return [Group(*kind, tuple(sorted(names))) for kind, names in groups.items()]


def group_of(row: Any) -> Group:
    """A group of tensors from its JSON."""
    dtype, shape, boxes, names = row
    return Group(
        dtype, tuple(shape), tuple(Box(tuple(o), tuple(s)) for o, s in boxes), tuple(names)
    )


def assign(layouts: Sequence[Sequence[Group]]) -> list[list[Group]]:
    """What each rank writes. `layouts[rank]` is what it holds, each name in one group of it.

    A box that several ranks hold is written once; a large one is cut by rows among them. Raises
    CheckpointError when two ranks disagree about a tensor.
    """
    assigned: list[list[Group]] = [[] for _ in layouts]
    for rank, family in place(families(layouts), len(layouts)):
        assigned[rank].append(family.group)
    return assigned


def place(found: Sequence[Family], ranks: int) -> Iterator[tuple[int, Family]]:
    """Each box at one of its holders, spread by bytes; a large one is cut by rows among them.

    What comes out is what went in, with fewer names or rows to a family.
    """
    total = sum(family.bytes * len(family.names) for family in found)
    limit = max(LEAST_CUT, total // max(ranks, 1) // CUTS_OF_SHARE)
    loads = [0] * ranks
    shared = []
    for family in found:
        if len(family.ranks) == 1:
            rank = family.ranks[0]
            loads[rank] += family.bytes * len(family.names)
            yield rank, family
        else:
            shared.extend(_parts(family, limit))
    shared.sort(key=lambda family: (-family.bytes, family.names, family.box))
    for family in shared:
        yield from _spread(family, loads)


def entries_of(groups: Iterable[Group]) -> list[BoxEntry]:
    """The boxes of groups, in the order of a file."""
    return sorted(
        (
            BoxEntry(name, group.dtype, group.shape, box)
            for group in groups
            for box in group.boxes
            for name in group.names
        ),
        key=file_order,
    )


def file_order(entry: BoxEntry) -> tuple[int, str, Box]:
    """Wide elements first, so that each box starts at a multiple of its element's size."""
    return -ELEMENT_TYPES[entry.dtype].size, entry.name, entry.box


def block_bytes(total: int) -> int:
    """Bytes that one checksum covers: 4 MiB, or more where a manifest would grow past a million."""
    return max(BLOCK_BYTES, 1 << (-(-total // MAX_BLOCKS) - 1).bit_length() if total else 0)


def families(layouts: Sequence[Sequence[Group]]) -> list[Family]:
    """Every box that ranks hold, with all its holders. Raises CheckpointError as `assign` does."""
    refined = _refinement(group.names for layout in layouts for group in layout)
    kinds: dict[Names, tuple[str, tuple[int, ...], int]] = {}
    holders: dict[tuple[Names, Box], list[int]] = {}
    for rank, layout in enumerate(layouts):
        for group in layout:
            for names in refined[group.names]:
                kind = kinds.setdefault(names, (group.dtype, group.shape, rank))
                if kind[0] != group.dtype or kind[1] != group.shape:
                    raise CheckpointError(
                        f"ranks disagree about {names[0]!r}: rank {kind[2]} has {kind[0]} "
                        f"{list(kind[1])}, rank {rank} has {group.dtype} {list(group.shape)}"
                    )
                for box in group.boxes:
                    holders.setdefault((names, box), []).append(rank)
    return [
        Family(*kinds[names][:2], box, names, tuple(ranks))
        for (names, box), ranks in holders.items()
    ]


def _refinement(used: Iterable[Names]) -> dict[Names, list[Names]]:
    """Each group of names as groups that no rank's groups cut across."""
    groups = list(dict.fromkeys(used))
    seen_in: dict[str, list[int]] = {}
    for index, names in enumerate(groups):
        for name in names:
            seen_in.setdefault(name, []).append(index)
    refined = {}
    for names in groups:
        parts: dict[tuple[int, ...], list[str]] = {}
        for name in names:
            parts.setdefault(tuple(seen_in[name]), []).append(name)
        refined[names] = [tuple(part) for part in parts.values()]
    return refined


def _parts(family: Family, limit: int) -> list[Family]:
    count = min(len(family.ranks), -(-family.bytes // limit))
    if count <= 1:
        return [family]
    return [family._replace(box=box) for box in cut_rows(family.box, count)]


def _spread(family: Family, loads: list[int]) -> Iterator[tuple[int, Family]]:
    """Give each tensor of the family to the holder that has least so far."""
    size = family.bytes
    heap = [(loads[rank], rank) for rank in family.ranks]
    heapq.heapify(heap)
    taken: dict[int, list[str]] = {}
    for name in family.names:
        load, rank = heap[0]
        heapq.heapreplace(heap, (load + size, rank))
        taken.setdefault(rank, []).append(name)
    for rank, names in taken.items():
        loads[rank] += size * len(names)
        yield rank, family._replace(names=tuple(names))
