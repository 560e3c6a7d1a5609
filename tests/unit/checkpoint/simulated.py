"""A mesh without processes: what each rank would hold, write and read, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.checkpoint.checksum import block_sums
from trainer.checkpoint.datafile import lay_out, metadata
from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.geometry import Box, Cut, local_parts, slices
from trainer.checkpoint.manifest import Manifest
from trainer.checkpoint.plan import Held, assign, entries_of, grouped
from trainer.checkpoint.receipt import blank, merge, receipt, rows
from trainer.checkpoint.store import Store
from trainer.checkpoint.transfer import Wanted, read

Bytes = npt.NDArray[np.uint8]
ATTEMPT = "v00000007-g00001-0000000a"


@dataclass(frozen=True)
class Whole:
    """A tensor: its element type's name, and its bytes, shape (*shape, element size)."""

    dtype: str
    data: Bytes

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape[:-1]


@dataclass(frozen=True)
class Mesh:
    """A mesh and how it cuts each tensor: name -> one entry a mesh dimension."""

    shape: tuple[int, ...]
    cuts: Mapping[str, Sequence[Cut | None]]

    def layouts(self, tensors: Mapping[str, Whole]) -> list[dict[str, Held]]:
        return [
            {
                name: (
                    tensor.dtype,
                    tensor.shape,
                    tuple(
                        box
                        for box, _ in local_parts(
                            tensor.shape, self.shape, coordinate, self.cuts[name]
                        )
                    ),
                )
                for name, tensor in tensors.items()
            }
            for coordinate in itertools.product(*map(range, self.shape))
        ]


def bytes_of(tensor: Whole, box: Box) -> Bytes:
    """A box's bytes, row by row."""
    return np.ascontiguousarray(tensor.data[slices(box)]).reshape(-1)


def save(
    store: Store, tensors: Mapping[str, Whole], mesh: Mesh, *, version: int = 7, block: int = 64
) -> Manifest:
    """What all ranks of the mesh would write, and the manifest of it."""
    receipts = []
    plan = assign([grouped(held) for held in mesh.layouts(tensors)])
    for rank, entries in enumerate(map(entries_of, plan)):
        layout = lay_out(entries, metadata(version, 1, ATTEMPT))
        data = [bytes_of(tensors[entry.name], entry.box) for entry in entries]
        path = f"data/{ATTEMPT}/{rank:05d}.safetensors"
        store.write(path, [layout.header, *(item.data for item in data)])
        sums = [block_sums(item, block, version) for item in data]
        receipts.append(receipt(path, layout.bytes, rows(entries, layout.starts), sums))
    kinds = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    rest = blank(
        kinds, version=version, generation=1, attempt=ATTEMPT, identity={}, values={}, block=block
    )
    return merge(rest, receipts)


def load(
    store: Store, manifest: Manifest, tensors: Mapping[str, Whole], mesh: Mesh
) -> list[dict[tuple[str, Box], Bytes]]:
    """What each rank of the mesh would read: (name, box) -> bytes."""
    ranks = []
    for layout in mesh.layouts(tensors):
        held = {
            (name, box): np.full(box.volume * ELEMENT_TYPES[dtype].size, 0xEE, dtype=np.uint8)
            for name, (dtype, _, boxes) in layout.items()
            for box in boxes
        }
        read(store, manifest, [Wanted(*key, target) for key, target in held.items()], threads=1)
        ranks.append(held)
    return ranks
