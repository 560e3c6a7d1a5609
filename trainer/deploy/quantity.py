"""Kubernetes quantities: `500m`, `16Gi`, `1.5T`."""

from __future__ import annotations

import math
import re
from decimal import Decimal

_SUFFIX = {
    "": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6),
    "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "Ki": Decimal(2**10),
    "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
}  # fmt: skip


def value(quantity: str) -> Decimal:
    """The number a quantity stands for. Raises ValueError for what is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", quantity)
    if match is None or match[2] not in _SUFFIX:
        raise ValueError(f"{quantity!r} is no quantity")
    return Decimal(match[1]) * _SUFFIX[match[2]]


def half(quantity: str) -> str:
    """Half of a number of bytes, in whole Mi."""
    return f"{max(1, math.floor(value(quantity) / 2 / 2**20))}Mi"
