"""The checksums of a run of bytes: xxh3-64 of every block of it, seeded with the version.

Imports no torch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xxhash

Bytes = npt.NDArray[np.uint8]


class BlockSums:
    """Sums of bytes that come in pieces, each hashed while it is still in the processor's cache."""

    def __init__(self, block: int, version: int) -> None:
        self._block = block
        self._version = version
        self._hash = xxhash.xxh3_64(seed=version)
        self._filled = 0
        self._sums: list[int] = []

    def add(self, data: memoryview) -> None:
        """The next bytes."""
        while len(data):
            part = data[: self._block - self._filled]
            self._hash.update(part)
            self._filled += len(part)
            if self._filled == self._block:
                self._close()
            data = data[len(part) :]

    def finish(self) -> list[int]:
        """The sums of all blocks, of which the last may be short."""
        if self._filled:
            self._close()
        return self._sums

    def _close(self) -> None:
        self._sums.append(self._hash.intdigest())
        self._hash = xxhash.xxh3_64(seed=self._version)
        self._filled = 0


def block_sums(data: Bytes, block: int, version: int) -> list[int]:
    """The sums of bytes that are all there."""
    sums = BlockSums(block, version)
    sums.add(data.data)
    return sums.finish()
