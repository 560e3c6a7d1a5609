"""A pseudorandom order of n things in O(1) memory: a keyed Feistel network, cycle-walked."""

from __future__ import annotations

import hashlib

_ROUNDS = 6
_MASK = (1 << 64) - 1


class Permutation:
    """A bijection of range(size), drawn from `key`."""

    def __init__(self, size: int, key: bytes) -> None:
        if size < 1:
            raise ValueError("nothing to permute")
        self._size = size
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        digest = hashlib.blake2b(key, digest_size=8 * _ROUNDS).digest()
        self._keys = [
            int.from_bytes(digest[8 * index : 8 * index + 8], "little") for index in range(_ROUNDS)
        ]

    def __len__(self) -> int:
        return self._size

    def __call__(self, index: int) -> int:
        """Where `index` goes. Walks the cycle of a power of four until it is back in range."""
        if not 0 <= index < self._size:
            raise IndexError(f"{index} is not within 0 … {self._size - 1}")
        index = self._scramble(index)
        while index >= self._size:
            index = self._scramble(index)
        return index

    def _scramble(self, index: int) -> int:
        mask = (1 << self._half) - 1
        left, right = index >> self._half, index & mask
        for key in self._keys:
            left, right = right, left ^ (_scatter(right + key) & mask)
        return left << self._half | right


def _scatter(value: int) -> int:
    value &= _MASK
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)
