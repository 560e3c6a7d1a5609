"""The samples of the cluster's jobs: slow to come for as long as the test holds them back."""

from __future__ import annotations

import time
from pathlib import Path

TEXT = b"the quick brown fox jumps over the lazy dog; " * 400
PACE = 0.2
"""Seconds that a held sample takes."""


class Samples:
    """Windows of a text. They are held back while the file `hold` is there."""

    def __init__(self, length: int, hold: str) -> None:
        self._length = length
        self._hold = Path(hold)

    def __len__(self) -> int:
        return len(TEXT) - self._length

    def __getitem__(self, index: int) -> list[int]:
        if self._hold.exists():
            time.sleep(PACE)
        return list(TEXT[index : index + self._length])


def samples(length: int, hold: str) -> Samples:
    """`length`: numbers of a sample."""
    return Samples(length, hold)
