"""Sums of bytes that come in pieces are those of the same bytes at once."""

from __future__ import annotations

import numpy as np
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.checkpoint.checksum import BlockSums, block_sums


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(1, 40), st.integers(0, 2**40), st.data())
def test_pieces_make_no_difference(
    data: bytes, block: int, version: int, draw: st.DataObject
) -> None:
    sums = BlockSums(block, version)
    view = memoryview(data)
    while len(view):
        length = draw.draw(st.integers(1, len(view)))
        sums.add(view[:length])
        view = view[length:]
    found = sums.finish()
    assert found == block_sums(np.frombuffer(data, dtype=np.uint8), block, version)
    assert found == [
        xxhash.xxh3_64_intdigest(data[at : at + block], seed=version)
        for at in range(0, len(data), block)
    ]
