"""More than 2 GiB in one tensor and one file: every offset is 64 bits wide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainer.checkpoint.checksum import block_sums
from trainer.checkpoint.datafile import BoxEntry, lay_out, metadata
from trainer.checkpoint.geometry import Box, whole
from trainer.checkpoint.manifest import decode, encode
from trainer.checkpoint.receipt import blank, merge, receipt, rows
from trainer.checkpoint.store import LocalStore
from trainer.checkpoint.transfer import Wanted, read

pytestmark = pytest.mark.slow
BLOCK = 4 << 20
SHAPE = (1 << 20, 5000)
ROW = SHAPE[1]
ATTEMPT = "v00000001-g00001-0000000a"


def test_a_tensor_of_five_gigabytes_in_a_sparse_file(tmp_path: Path) -> None:
    """All zeros but for one row; only that row's surroundings are ever read."""
    store = LocalStore(tmp_path)
    entry = BoxEntry("big", "uint8", SHAPE, whole(SHAPE))
    layout = lay_out([entry], metadata(1, 1, ATTEMPT))
    path = tmp_path / f"data/{ATTEMPT}/00000.safetensors"
    path.parent.mkdir(parents=True)
    row = SHAPE[0] - 7
    marked = np.arange(ROW, dtype=np.uint64).astype(np.uint8)
    with path.open("wb") as file:
        file.write(layout.header)
        file.seek(layout.starts[0] + row * ROW)
        file.write(marked.tobytes())
        file.truncate(layout.bytes)

    zero = block_sums(np.zeros(BLOCK, dtype=np.uint8), BLOCK, 1)[0]
    count = -(-entry.bytes // BLOCK)
    sums = [zero] * count
    for block in {row * ROW // BLOCK, ((row + 1) * ROW - 1) // BLOCK, count - 1}:
        length = min(BLOCK, entry.bytes - block * BLOCK)
        start = layout.starts[0] + block * BLOCK
        data = np.frombuffer(store.read(str(path.relative_to(tmp_path)), start, length), np.uint8)
        sums[block] = block_sums(data, BLOCK, 1)[0]
    written = receipt(
        f"data/{ATTEMPT}/00000.safetensors", layout.bytes, rows([entry], layout.starts), [sums]
    )
    rest = blank(
        {"big": ("uint8", SHAPE)},
        version=1,
        generation=1,
        attempt=ATTEMPT,
        identity={},
        values={},
        block=BLOCK,
    )
    manifest = decode(encode(merge(rest, [written])), "manifest")
    found = np.zeros(3 * 100, dtype=np.uint8)
    read(store, manifest, [Wanted("big", Box((row - 1, 4000), (3, 100)), found)])
    expected = np.zeros((3, 100), dtype=np.uint8)
    expected[1] = marked[4000:4100]
    assert np.array_equal(found.reshape(3, 100), expected)
