"""Whether two ranks hold the same, told by few numbers: NaNs and signs of zero count as well.

Host memory is hashed as it lies there (some 10 GB/s). What lies on a device is summed up there, in
whole numbers, so that the order of addition can't matter and nothing is copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import xxhash
from torch import Tensor

from trainer.checkpoint.tensors import host_bytes

CHUNK_WORDS = 1 << 22
"""Words that are mixed at once on a device; a few times 8 bytes of its memory for each."""

_PLACE = -0x61C8864680B583EB
_FACTOR = -0x3D4D51C2D82B14B1
"""Odd constants of 64 bits (as splitmix64's), so that each product is a permutation."""


def fingerprint(views: Sequence[Tensor]) -> str:
    """Of the elements' bytes, view by view and row by row; equal only for equal bytes, but for one
    chance in 2^64. The shapes are not in it."""
    of_host = xxhash.xxh3_64()
    by_device: dict[torch.device, list[Tensor]] = {}
    for view in views:
        if view.device.type == "cpu":
            of_host.update(host_bytes(view).data)
        else:
            by_device.setdefault(view.device, []).append(view)
    sums = [f"{device_sum(of_device):016x}" for of_device in by_device.values()]
    return "-".join([of_host.hexdigest(), *sums])


def digest_of(value: Any) -> str:
    """Of JSON; the order of keys does not count."""
    return xxhash.xxh3_64_hexdigest(json.dumps(value, sort_keys=True).encode())


def device_sum(views: Sequence[Tensor]) -> int:
    """The sum, modulo 2^64, over all words of a mix of the word and its place."""
    total: Tensor | None = None
    first = 0
    with torch.no_grad():
        for words in _chunks(views):
            places = torch.arange(first, first + words.numel(), device=words.device)
            mixed = (words.to(torch.int64) + places * _PLACE) * _FACTOR
            mixed ^= mixed >> 29
            mixed *= _PLACE
            mixed ^= mixed >> 32
            part = (mixed * _FACTOR).sum()
            total = part if total is None else total + part
            first += words.numel()
    return 0 if total is None else int(total) % (1 << 64)


def _chunks(views: Sequence[Tensor]) -> Iterator[Tensor]:
    """All words, few tensors at a time and many small ones together."""
    waiting: list[Tensor] = []
    count = 0
    for view in views:
        for words in torch.split(_words(view), CHUNK_WORDS):
            if waiting and (count + words.numel() > CHUNK_WORDS or words.dtype != waiting[0].dtype):
                yield torch.cat(waiting)
                waiting, count = [], 0
            waiting.append(words)
            count += words.numel()
    if waiting:
        yield torch.cat(waiting)


def _words(view: Tensor) -> Tensor:
    """The bytes as integers of at most four bytes each, in one row."""
    flat = view.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    narrow = {1: torch.uint8, 2: torch.int16}
    return flat.view(narrow.get(flat.element_size(), torch.int32))
