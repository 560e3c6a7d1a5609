"""Dropout whose mask is a function of the sample, not of the rank.

Whether an element is dropped follows from (seed, sample key, layer, site, position in the
sequence, channel) by integer arithmetic alone, so every sharding draws the same mask. Integers
are kept below 2**32 in int64 and multiplied by constants below 2**31: nothing overflows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_MASK = 0xFFFFFFFF
_FIRST = 0x7FEB352D
_SECOND = 0x46A76B35


def _mix(value: Tensor) -> Tensor:
    """Scatter the bits of values in [0, 2**32)."""
    value = value ^ (value >> 16)
    value = (value * _FIRST) & _MASK
    value = value ^ (value >> 15)
    value = (value * _SECOND) & _MASK
    return value ^ (value >> 16)


def layer_keys(seed: int, keys: Tensor, layers: Sequence[int]) -> Tensor:
    """Keys for each layer: [layers, batch] from sample keys [batch], int64 in [0, 2**32)."""
    index = torch.tensor(layers, dtype=torch.int64, device=keys.device)
    sample = _mix(_mix((keys >> 32) & _MASK) ^ (keys & _MASK))
    sample = _mix(sample ^ (seed & _MASK))
    sample = _mix(sample ^ ((seed >> 32) & _MASK))
    return _mix(sample[None, :] ^ _mix(index + 1)[:, None])


def keep_mask(keys: Tensor, shape: torch.Size, p: float, site: int, offset: int) -> Tensor:
    """Which elements of [batch, sequence, channels] stay, as bool; keys are a layer's [batch].

    `offset` is the position in the whole sequence of this shard's first element. Each hash
    serves two channels, 16 bits each, so `p` is met to within 2**-16.
    """
    _, length, channels = shape
    half = (channels + 1) // 2
    position = torch.arange(offset, offset + length, dtype=torch.int64, device=keys.device)
    channel = torch.arange(half, dtype=torch.int64, device=keys.device)
    row = _mix(_mix(keys ^ (site + 1))[:, None] ^ _mix(position + 1)[None, :])
    column = _mix(channel * 2 + 1)
    value = row[:, :, None] ^ column
    value = (value * _FIRST) & _MASK
    value = value ^ (value >> 15)
    value = (value * _SECOND) & _MASK
    value = value ^ (value >> 16)
    threshold = round(p * 65536)
    pair = torch.cat(((value & 0xFFFF) >= threshold, (value >> 16) >= threshold), dim=-1)
    return pair[:, :, :channels]


class KeyedDropout(nn.Module):
    """Drops elements of [batch, sequence, channels] by the sample's key.

    `sequence_offset` is set on ranks that hold a shard of the sequence.
    """

    def __init__(self, p: float, site: int) -> None:
        super().__init__()
        self.p = p
        self.site = site
        self.sequence_offset = 0

    def forward(self, values: Tensor, keys: Tensor | None) -> Tensor:
        """`keys`: one row of `layer_keys`, [batch]; may be None where nothing is dropped."""
        if not self.training or self.p == 0.0:
            return values
        if keys is None:
            raise ValueError("dropout needs the samples' keys while training")
        keep = keep_mask(keys, values.shape, self.p, self.site, self.sequence_offset)
        return values * (keep.to(values.dtype) * (1.0 / (1.0 - self.p)))


def set_sequence_offset(model: nn.Module, offset: int) -> None:
    """Tell every dropout of the model where its shard of the sequence begins."""
    for module in model.modules():
        if isinstance(module, KeyedDropout):
            module.sequence_offset = offset
