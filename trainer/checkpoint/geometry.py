"""Boxes of tensors: which part of a tensor a rank holds, and where two parts meet.

Pure: integers in, integers out. A box is told by its offsets in the whole tensor and its
sizes, one number a dimension. A 0-d tensor has the one box `Box((), ())`, of volume 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np

Run = tuple[int, int]
MAX_CELLS = 1 << 27


class Box(NamedTuple):
    """A part of a tensor: `offsets[d] <= index[d] < offsets[d] + sizes[d]`."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def volume(self) -> int:
        return math.prod(self.sizes)


def whole(shape: Sequence[int]) -> Box:
    """The box that is the tensor itself."""
    return Box((0,) * len(shape), tuple(shape))


def intersect(a: Box, b: Box) -> Box | None:
    """Where the two meet, or None when they share no element."""
    offsets = tuple(max(x, y) for x, y in zip(a.offsets, b.offsets, strict=True))
    sizes = tuple(
        min(ao + asize, bo + bsize) - o
        for ao, asize, bo, bsize, o in zip(
            a.offsets, a.sizes, b.offsets, b.sizes, offsets, strict=True
        )
    )
    return Box(offsets, sizes) if all(size > 0 for size in sizes) else None


def within(box: Box, frame: Box) -> Box:
    """The same box with its offsets counted from the frame's corner."""
    return Box(
        tuple(o - f for o, f in zip(box.offsets, frame.offsets, strict=True)), tuple(box.sizes)
    )


def slices(box: Box) -> tuple[slice, ...]:
    """What to index an array with to get the box."""
    return tuple(slice(o, o + s) for o, s in zip(box.offsets, box.sizes, strict=True))


def span(shape: Sequence[int], part: Box) -> tuple[int, int]:
    """The first element of the part and one past its last, in a row-major array of this shape."""
    first = last = 0
    for size, offset, length in zip(shape, part.offsets, part.sizes, strict=True):
        first = first * size + offset
        last = last * size + offset + length - 1
    return first, last + 1


def contiguous(shape: Sequence[int], part: Box) -> bool:
    """Whether the part lies in one piece in a row-major array of this shape."""
    first, last = span(shape, part)
    return last - first == part.volume


def cut_rows(box: Box, parts: int) -> list[Box]:
    """At most `parts` boxes along the first dimension longer than 1, of nearly equal sizes.

    Every one of them lies in one piece in a row-major array of the box.
    """
    dim = next((d for d, size in enumerate(box.sizes) if size > 1), None)
    if dim is None or parts <= 1:
        return [box]
    rows = box.sizes[dim]
    count = min(parts, rows)
    edges = [rows * i // count for i in range(count + 1)]
    return [
        Box(
            (*box.offsets[:dim], box.offsets[dim] + low, *box.offsets[dim + 1 :]),
            (*box.sizes[:dim], high - low, *box.sizes[dim + 1 :]),
        )
        for low, high in pairwise(edges)
    ]


def remainder(box: Box, rows: Sequence[Box]) -> list[Box]:
    """What is left of a box without some of the rows that `cut_rows` made of it."""
    if not rows:
        return [box]
    if rows[0] == box:
        return []
    dim = next(d for d, size in enumerate(box.sizes) if size > 1)
    edges = [box.offsets[dim]]
    for row in sorted(rows):
        edges += [row.offsets[dim], row.offsets[dim] + row.sizes[dim]]
    edges.append(box.offsets[dim] + box.sizes[dim])
    return [
        Box(
            (*box.offsets[:dim], low, *box.offsets[dim + 1 :]),
            (*box.sizes[:dim], high - low, *box.sizes[dim + 1 :]),
        )
        for low, high in zip(edges[::2], edges[1::2], strict=True)
        if high > low
    ]


@dataclass(frozen=True, slots=True)
class Cut:
    """How one dimension of a mesh divides a tensor.

    `dim` is the tensor's dimension. With `factor` 1 it is cut as `torch.chunk` cuts. Otherwise
    it is first cut into `factor` blocks, and each of those among the ranks (DTensor's strided
    shard: what FSDP makes of a tensor that tensor parallelism has already divided).
    """

    dim: int
    factor: int = 1


def _chunk(runs: Sequence[Run], parts: int, index: int) -> list[Run]:
    length = sum(size for _, size in runs)
    step = -(-length // parts) if length else 0
    low, high = min(step * index, length), min(step * (index + 1), length)
    taken, position = [], 0
    for start, size in runs:
        a, b = max(low, position), min(high, position + size)
        if a < b:
            taken.append((start + a - position, b - a))
        position += size
    return taken


def _joined(runs: Iterable[Run]) -> list[Run]:
    joined: list[Run] = []
    for start, size in runs:
        if joined and sum(joined[-1]) == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + size)
        else:
            joined.append((start, size))
    return joined


def local_parts(
    shape: Sequence[int],
    mesh_shape: Sequence[int],
    coordinate: Sequence[int],
    cuts: Sequence[Cut | None],
) -> list[tuple[Box, tuple[int, ...]]]:
    """What the rank at `coordinate` holds: boxes, each with its offsets in the local tensor.

    `cuts` has one entry a mesh dimension, None where the tensor is replicated. More than one box
    comes back where a strided shard divides unevenly; none where the rank's part is empty.
    """
    runs: list[list[Run]] = [[(0, size)] if size else [] for size in shape]
    for parts, index, cut in zip(mesh_shape, coordinate, cuts, strict=True):
        if cut is None:
            continue
        blocks = [_chunk(runs[cut.dim], cut.factor, block) for block in range(cut.factor)]
        runs[cut.dim] = _joined(run for block in blocks for run in _chunk(block, parts, index))
    return [
        (Box(tuple(run[0] for run in combination), tuple(run[1] for run in combination)), local)
        for combination, local in zip(
            product(*runs), product(*(_starts(run) for run in runs)), strict=True
        )
    ]


def _starts(runs: Sequence[Run]) -> Iterator[int]:
    position = 0
    for _, size in runs:
        yield position
        position += size


def coverage_fault(shape: Sequence[int], boxes: Sequence[Box]) -> str | None:
    """Why these boxes don't make up the whole tensor, each element once; None when they do."""
    total = math.prod(shape)
    for box in boxes:
        if not len(box.offsets) == len(box.sizes) == len(shape) or any(
            o < 0 or s <= 0 or o + s > n
            for o, s, n in zip(box.offsets, box.sizes, shape, strict=True)
        ):
            return f"box {list(box.offsets)}+{list(box.sizes)} lies outside {list(shape)}"
    covered = sum(box.volume for box in boxes)
    if covered != total:
        return f"its boxes hold {covered} elements of {total}"
    if len(boxes) <= 1:
        return None
    edges = [
        sorted({box.offsets[d] for box in boxes} | {box.offsets[d] + box.sizes[d] for box in boxes})
        for d in range(len(shape))
    ]
    if math.prod(len(of_dim) for of_dim in edges) > MAX_CELLS:
        return f"its {len(boxes)} boxes are cut too unevenly to tell"
    at = [{edge: i for i, edge in enumerate(of_dim)} for of_dim in edges]
    grid = np.zeros([len(of_dim) - 1 for of_dim in edges], dtype=np.bool_)
    for box in boxes:
        cells = grid[
            tuple(
                slice(at[d][o], at[d][o + s])
                for d, (o, s) in enumerate(zip(box.offsets, box.sizes, strict=True))
            )
        ]
        if cells.any():
            return f"box {list(box.offsets)}+{list(box.sizes)} overlaps another"
        cells[...] = True
    return None
