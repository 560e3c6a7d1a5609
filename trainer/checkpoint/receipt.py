"""What one rank wrote, as JSON, and how all ranks' receipts become the manifest. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainer.checkpoint.datafile import BoxEntry
from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.geometry import Box, coverage_fault
from trainer.checkpoint.manifest import (
    Chunk,
    DataFile,
    Manifest,
    TensorRecord,
    checked,
    checksum,
    count,
    counts,
    text,
)
from trainer.errors import CheckpointDamaged, CheckpointError
from trainer.names import DATA_PATH, named
from trainer.outside.document import loads
from trainer.outside.echo import shown

JSON = Any


def receipt(path: str, size: int, boxes: Sequence[JSON], sums: Sequence[Sequence[int]]) -> JSON:
    """A rank's account of the data file it wrote: its size, its boxes, their places and sums."""
    return {
        "path": path,
        "bytes": size,
        "boxes": [[*box[:6], of_box] for box, of_box in zip(boxes, sums, strict=True)],
    }


def read_receipt(data: bytes, path: str) -> JSON:
    """What lies in a receipt's file, `{"error": …}` among it. Raises CheckpointDamaged."""
    try:
        value = loads(data)
    except ValueError as error:
        raise CheckpointDamaged(f"{path} is no receipt: {error}") from error
    if isinstance(value, dict) and isinstance(value.get("error"), str):
        return {"error": value["error"]}
    return checked(path, lambda: _sound(value))


def _sound(value: JSON) -> JSON:
    return {
        "path": named(DATA_PATH, value["path"]),
        "bytes": count(value["bytes"]),
        "boxes": [
            [
                text(name),
                _element_type(dtype),
                *(counts(numbers) for numbers in (shape, offsets, sizes)),
                count(start),
                [checksum(item) for item in sums],
            ]
            for name, dtype, shape, offsets, sizes, start, sums in value["boxes"]
        ],
    }


def _element_type(value: JSON) -> str:
    if text(value) not in ELEMENT_TYPES:
        raise ValueError(f"{shown(value)} is no element type")
    return text(value)


def rows(entries: Sequence[BoxEntry], starts: Sequence[int]) -> list[JSON]:
    """Boxes as JSON: name, element type, whole shape, offsets, sizes, first byte, bytes."""
    return [
        [entry.name, entry.dtype, entry.shape, *entry.box, start, entry.bytes]
        for entry, start in zip(entries, starts, strict=True)
    ]


def merge(blank: Manifest, receipts: Sequence[JSON]) -> Manifest:
    """The manifest of all the files; `blank` gives the rest of it. A rank may have no file: None.

    Raises CheckpointError when the boxes don't make up whole tensors.
    """
    files: list[DataFile] = []
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {
        name: (tensor.dtype, tensor.shape) for name, tensor in blank.tensors.items()
    }
    chunks: dict[str, list[Chunk]] = {name: [] for name in kinds}
    for item in receipts:
        if item is None:
            continue
        for name, dtype, shape, offsets, sizes, start, sums in item["boxes"]:
            kinds.setdefault(name, (dtype, tuple(shape)))
            box = Box(tuple(offsets), tuple(sizes))
            chunks.setdefault(name, []).append(Chunk(box, len(files), start, tuple(sums)))
        files.append(DataFile(item["path"], item["bytes"]))
    for name, (_, shape) in kinds.items():
        fault = coverage_fault(shape, [chunk.box for chunk in chunks[name]])
        if fault is not None:
            raise CheckpointError(f"the ranks do not hold all of {name!r}: {fault}")
    tensors = {
        name: TensorRecord(*kind, tuple(sorted(chunks[name], key=lambda chunk: chunk.box)))
        for name, kind in kinds.items()
    }
    return replace(blank, tensors=tensors, files=files)


def blank(kinds: Mapping[str, tuple[str, tuple[int, ...]]], **fields: Any) -> Manifest:
    """A manifest whose tensors have no chunks yet, stamped with the present time."""
    tensors = {name: TensorRecord(dtype, shape, ()) for name, (dtype, shape) in kinds.items()}
    return Manifest(tensors=tensors, files=(), time=time.time(), **fields)
