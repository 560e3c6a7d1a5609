"""Initial weights keyed by (seed, parameter name), computed box by box.

Element i of a parameter is a function of the seed, the parameter's name and i, made of integer
operations and one rounding, so that every sharding, device and processor gets the same bits.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_CHUNK = 1 << 16
_LANES = 8
_LANE_VARIANCE = (2**32 - 1) / 12.0
_GOLDEN = 0x9E3779B97F4A7C15

UInts = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class InitRule:
    """How a parameter begins.

    `scale` is the deviation of "normal" and the value of "constant"; `given` returns the
    whole parameter where the model's own code has made it.
    """

    kind: Literal["normal", "constant", "given"]
    scale: float = 0.0
    given: Callable[[], Tensor] | None = None


def initial_value(
    rule: InitRule,
    name: str,
    shape: Sequence[int],
    seed: int,
    box: tuple[Sequence[int], Sequence[int]] | None = None,
) -> Tensor:
    """A box (offsets, sizes) of the parameter `name` of global `shape`; all of it by default.

    On the CPU, float32 unless given. "normal" is the sum of eight uniform numbers: bell-shaped,
    of mean 0, and never further out than 4.9 deviations.
    """
    offsets, sizes = ((0,) * len(shape), tuple(shape)) if box is None else box
    if rule.kind == "constant":
        return torch.full(tuple(sizes), rule.scale, dtype=torch.float32)
    if rule.kind == "given":
        assert rule.given is not None
        cut = tuple(slice(o, o + size) for o, size in zip(offsets, sizes, strict=True))
        return rule.given()[cut]
    out = np.empty(math.prod(sizes), dtype=np.float32)
    key = parameter_key(name, seed)
    begin = 0
    for flat in _flat_indices(shape, offsets, sizes):
        out[begin : begin + flat.size] = _bell(flat, key) * rule.scale
        begin += flat.size
    return torch.from_numpy(out).reshape(tuple(sizes))


def parameter_key(name: str, seed: int) -> int:
    """64 bits drawn from the seed and the name."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _bell(flat: UInts, key: int) -> npt.NDArray[np.float64]:
    """Standard deviates for flat element numbers, exact up to one float64 multiplication."""
    total = np.zeros(flat.shape, dtype=np.int64)
    for draw in range(_LANES // 4):
        bits = _scatter(flat * np.uint64(2) + np.uint64(draw), key)
        for lane in range(4):
            total += ((bits >> np.uint64(16 * lane)) & np.uint64(0xFFFF)).astype(np.int64)
    centred = (2 * total - _LANES * 0xFFFF).astype(np.float64)
    centred *= 0.5 / math.sqrt(_LANES * _LANE_VARIANCE)
    return centred


def _scatter(value: UInts, key: int) -> UInts:
    """SplitMix64's output function over a counter; unsigned arithmetic wraps by definition."""
    mixed = value * np.uint64(_GOLDEN) + np.uint64(key)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _flat_indices(
    shape: Sequence[int], offsets: Sequence[int], sizes: Sequence[int]
) -> Iterator[UInts]:
    """Where the box's elements lie in the whole parameter, in the box's order, in chunks."""
    if math.prod(sizes) == 0:
        return
    *outer, width = sizes if sizes else (1,)
    strides = [math.prod(shape[dim + 1 :]) for dim in range(len(shape))]
    inner = (offsets[-1] if offsets else 0) + np.arange(width, dtype=np.int64)
    rows = math.prod(outer)
    step = max(1, _CHUNK // width)
    for first in range(0, rows, step):
        chosen = np.unravel_index(np.arange(first, min(first + step, rows)), outer or (1,))
        base = np.zeros(chosen[0].shape, dtype=np.int64)
        for index, offset, stride in zip(chosen, offsets, strides, strict=False):
            if outer:
                base += (index + offset) * stride
        flat = (base[:, None] + inner).reshape(-1).astype(np.uint64)
        yield from (flat[at : at + _CHUNK] for at in range(0, flat.size, _CHUNK))
