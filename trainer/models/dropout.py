"""Dropout whose mask is a function of the sample, not of the rank.

Whether an element is dropped follows from (seed, sample key, layer, site, position in the
sequence, channel) by integer arithmetic alone, so every sharding draws the same mask. Integers
are kept below 2**32 in int64 and multiplied by constants below 2**31: nothing overflows.

A row code stands for all but the channel; it is made once per token and site, so that little
is left to do for each element.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SITES = 2
"""Places of a block where something is dropped."""

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


def row_codes(
    seed: int, keys: Tensor, layers: Sequence[int], *, offset: int, length: int
) -> Tensor:
    """Codes [layers, SITES, batch, length] of the tokens of samples with `keys` [batch].

    All are int64 in [0, 2**32). `offset` is the position in the whole sequence at which this
    rank's shard of `length` tokens begins.
    """
    where = keys.device
    sample = _mix(_mix((keys >> 32) & _MASK) ^ (keys & _MASK))
    sample = _mix(_mix(sample ^ (seed & _MASK)) ^ ((seed >> 32) & _MASK))
    places = [SITES * layer + site + 1 for layer in layers for site in range(SITES)]
    place = _mix(torch.tensor(places, dtype=torch.int64, device=where))
    position = _mix(torch.arange(offset + 1, offset + length + 1, device=where))
    code = _mix(place[:, None] ^ sample)
    rows = _mix(code[:, :, None] ^ position)
    return rows.view(len(layers), SITES, *rows.shape[1:])


def column_codes(channels: int, device: torch.device) -> Tensor:
    """Codes [channels] of the channels."""
    return _mix(torch.arange(1, channels + 1, device=device))


def keep_mask(rows: Tensor, columns: Tensor, p: float) -> Tensor:
    """Which elements stay: bool [batch, length, channels] for rows [batch, length]."""
    value = (rows[:, :, None] ^ columns) * _FIRST & _MASK
    value = (value ^ (value >> 15)) * _SECOND & _MASK
    return value >= round(p * 2**32)


class KeyedDropout(nn.Module):
    """Drops elements of [batch, length, channels] by the codes of their rows and columns."""

    columns: Tensor

    def __init__(self, p: float, channels: int) -> None:
        super().__init__()
        self.p = p
        codes = torch.empty(channels, dtype=torch.int64)
        self.register_buffer("columns", codes, persistent=False)

    def forward(self, values: Tensor, rows: Tensor | None) -> Tensor:
        """`rows`: [batch, length] of `row_codes`; may be None where nothing is dropped."""
        if not self.training or self.p == 0.0:
            return values
        if rows is None:
            raise ValueError("dropout needs the samples' keys while training")
        keep = keep_mask(rows, self.columns, self.p)
        return values * (keep.to(values.dtype) * (1.0 / (1.0 - self.p)))
