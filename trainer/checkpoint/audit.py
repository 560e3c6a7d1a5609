"""Read a checkpoint whole and name whatever is damaged in it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.manifest import Chunk, Manifest
from trainer.checkpoint.store import Store
from trainer.checkpoint.transfer import SLAB_BYTES, check_file, read_blocks
from trainer.errors import CheckpointDamaged
from trainer.supervision import in_threads


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong: with a tensor, or with a file's header (then `tensor` is None)."""

    tensor: str | None
    fault: str


def audit(
    store: Store,
    manifest: Manifest,
    progress: Callable[[int], None] = lambda count: None,
    *,
    threads: int = 4,
) -> list[Damage]:
    """Every damaged tensor and file header. `progress` hears of each run of bytes read."""
    chunks = [(name, chunk) for name, t in manifest.tensors.items() for chunk in t.chunks]
    chunks.sort(key=lambda item: (item[1].file, item[1].start))

    def check(item: tuple[str, Chunk]) -> list[Damage]:
        name, chunk = item
        size = chunk.box.volume * ELEMENT_TYPES[manifest.tensors[name].dtype].size
        step = max(SLAB_BYTES // manifest.block, 1) * manifest.block
        for start in range(0, size, step):
            data = np.empty(min(step, size - start), dtype=np.uint8)
            try:
                read_blocks(store, manifest, chunk, start, data)
            except CheckpointDamaged as error:
                return [Damage(name, str(error))]
            progress(len(data))
        return []

    headers = [d for index in range(len(manifest.files)) for d in _header(store, manifest, index)]
    checked = in_threads(check, chunks, threads=threads)
    return headers + [damage for found in checked for damage in found]


def _header(store: Store, manifest: Manifest, index: int) -> list[Damage]:
    try:
        check_file(store, manifest, index)
    except CheckpointDamaged as error:
        return [Damage(None, str(error))]
    return []
