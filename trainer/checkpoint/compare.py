"""Where two checkpoints differ, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from trainer.checkpoint.catalog import Found
from trainer.checkpoint.exporting import read_tensor

JSON = Any


def differences(a: Found, b: Found, progress: Callable[[int], None]) -> Iterator[str]:
    """A line for each difference: identity, values, then tensors in name order.

    Reads both whole, tensor by tensor. Raises CheckpointDamaged.
    """
    yield from _keys("identity", a.manifest.identity, b.manifest.identity)
    yield from _keys("values", a.manifest.values, b.manifest.values)
    for name in sorted(a.manifest.tensors.keys() | b.manifest.tensors.keys()):
        ours, theirs = a.manifest.tensors.get(name), b.manifest.tensors.get(name)
        if ours is None or theirs is None:
            yield f"{name}: only in {'B' if ours is None else 'A'}"
        elif (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
            yield (
                f"{name}: {ours.dtype} {list(ours.shape)} in A, "
                f"{theirs.dtype} {list(theirs.shape)} in B"
            )
        else:
            line = _content(
                read_tensor(a.store, a.manifest, name), read_tensor(b.store, b.manifest, name)
            )
            progress(ours.bytes)
            if line is not None:
                yield f"{name}: {line}"


def _keys(title: str, a: Mapping[str, JSON], b: Mapping[str, JSON]) -> Iterator[str]:
    for key in sorted(a.keys() | b.keys()):
        if key not in a or key not in b:
            yield f"{title}.{key}: only in {'A' if key in a else 'B'}"
        elif a[key] != b[key]:
            yield f"{title}.{key}: {a[key]!r} in A, {b[key]!r} in B"


def _content(a: torch.Tensor, b: torch.Tensor) -> str | None:
    """How the elements differ, or None for the same bits."""
    if a.numel() == 0:
        return None
    bits_a, bits_b = a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8)
    if torch.equal(bits_a, bits_b):
        return None
    size = a.element_size()
    differing = int((bits_a != bits_b).view(-1, size).any(dim=1).sum())
    text = f"{differing} of {a.numel()} elements differ"
    if a.is_floating_point():
        gap = (a.double() - b.double()).abs().max().item()
        text += f", at most by {gap:.6g}"
    return text
