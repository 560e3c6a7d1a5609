"""The manifest: what a checkpoint holds, where each box of each tensor lies, and its checksums.

One JSON document on three lines: a header small enough to list many checkpoints by, the tensors,
and a checksum of the lines before it. `docs/checkpoint-format.md` describes every key.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import xxhash

from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.geometry import Box, coverage_fault
from trainer.errors import CheckpointDamaged

JSON = Any
T = TypeVar("T")
FORMAT = "remesh.checkpoint"
FORMAT_VERSION = 1
MAX_DIMENSIONS = 64
MAX_BYTES = 1 << 60
_SAFE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@=-]*")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One box of a tensor in one file.

    `file` indexes the manifest's files; `start` is the first byte of the box in that file, row by
    row from there. `sums` are the xxh3-64 of each `block` bytes of it, seeded with the version.
    """

    box: Box
    file: int
    start: int
    sums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A tensor: its element type (torch's name), its whole shape, and its chunks."""

    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * ELEMENT_TYPES[self.dtype].size


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file: its path below the checkpoint directory, and its size in bytes."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A committed checkpoint.

    `version` counts the optimizer steps in the state; `generation` committed it; `execution` names
    the life of the job in which generations are counted, `opened` the log record by which this
    one got the right to commit; `block` is the bytes a checksum covers;
    `values` is the free JSON that was saved along.
    """

    version: int
    generation: int
    attempt: str
    identity: Mapping[str, JSON]
    values: Mapping[str, JSON]
    tensors: Mapping[str, TensorRecord]
    files: Sequence[DataFile]
    block: int
    execution: str = ""
    opened: int = 0
    mesh: Mapping[str, int] = field(default_factory=dict)
    world_size: int = 1
    time: float = 0.0

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The header of a manifest: all but the tensors."""

    version: int
    generation: int
    attempt: str
    execution: str
    identity: Mapping[str, JSON]
    mesh: Mapping[str, int]
    world_size: int
    time: float
    bytes: int
    tensors: int


def header(manifest: Manifest) -> dict[str, JSON]:
    """The first line's content."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": "commit",
        "version": manifest.version,
        "generation": manifest.generation,
        "execution": manifest.execution,
        "opened": manifest.opened,
        "attempt": manifest.attempt,
        "time": manifest.time,
        "world_size": manifest.world_size,
        "mesh": dict(manifest.mesh),
        "identity": dict(manifest.identity),
        "bytes": manifest.bytes,
        "tensor_count": len(manifest.tensors),
        "block": manifest.block,
        "values": dict(manifest.values),
    }


def encode(manifest: Manifest) -> bytes:
    """The document. Raises ValueError for values that JSON can't hold (NaN is written as such)."""
    files = [[file.path, file.bytes] for file in manifest.files]
    tensors = {
        name: [
            tensor.dtype,
            tensor.shape,
            [
                [c.box.offsets, c.box.sizes, c.file, c.start, " ".join(f"{s:x}" for s in c.sums)]
                for c in tensor.chunks
            ],
        ]
        for name, tensor in sorted(manifest.tensors.items())
    }
    first = json.dumps(header(manifest), separators=(",", ":"))
    second = json.dumps({"files": files, "tensors": tensors}, separators=(",", ":"))
    body = f"{first[:-1]},\n{second[1:-1]},\n".encode()
    return body + f'"xxh3":"{xxhash.xxh3_64_hexdigest(body)}"}}\n'.encode()


def json_object(data: bytes, path: str) -> dict[str, JSON]:
    """A document of this format. Raises CheckpointDamaged."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointDamaged(f"{path} is not a manifest: {error}") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise CheckpointDamaged(f"{path} is not a manifest: it says no format {FORMAT!r}")
    found = value.get("format_version")
    if not isinstance(found, int) or not 1 <= found <= FORMAT_VERSION:
        raise CheckpointDamaged(
            f"{path} has format version {found!r}; this release reads 1 to {FORMAT_VERSION}: "
            "upgrade remesh to read it"
        )
    return value


def closed(first_line: bytes) -> bytes:
    """A record's first line as a JSON document of its own."""
    line = first_line.rstrip()
    return line[:-1] + b"}" if line.endswith(b",") else line


def decode_summary(first_line: bytes, path: str) -> Summary | None:
    """Read a record's first line; None for a record that is no commit. Raises CheckpointDamaged."""
    value = json_object(closed(first_line), path)
    if value.get("kind") != "commit":
        return None
    return checked(
        path,
        lambda: Summary(
            version=_count(value["version"]),
            generation=_count(value["generation"]),
            attempt=str(value["attempt"]),
            execution=str(value.get("execution", "")),
            identity=dict(value["identity"]),
            mesh=dict(value.get("mesh", {})),
            world_size=_count(value.get("world_size", 1)),
            time=float(value.get("time", 0)),
            bytes=_count(value["bytes"]),
            tensors=_count(value["tensor_count"]),
        ),
    )


def decode(data: bytes, path: str) -> Manifest:
    """Read and check a whole manifest. Raises CheckpointDamaged, naming `path` and the fault."""
    body, separator, last = data.rpartition(b'"xxh3":"')
    if not separator or last.rstrip() != f'{xxhash.xxh3_64_hexdigest(body)}"}}'.encode():
        raise CheckpointDamaged(f"{path} is cut short or altered: its checksum is not its own")
    value = json_object(data, path)
    manifest = checked(path, lambda: manifest_of(value))
    for fault in _faults(manifest):
        raise CheckpointDamaged(f"{path} is not sound: {fault}")
    return manifest


def checked(path: str, build: Callable[[], T]) -> T:
    """What `build` makes of a document. Raises CheckpointDamaged for keys missing or misshapen."""
    try:
        return build()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointDamaged(f"{path} is not sound: {error!r}") from error


def _count(value: JSON) -> int:
    if type(value) is not int or not 0 <= value <= MAX_BYTES:
        raise ValueError(f"{value!r} is no count")
    return value


def _counts(value: JSON) -> tuple[int, ...]:
    if len(value) > MAX_DIMENSIONS:
        raise ValueError(f"{len(value)} dimensions")
    return tuple(_count(item) for item in value)


def manifest_of(value: Mapping[str, JSON]) -> Manifest:
    """The manifest in a document. Raises what `checked` catches."""
    return Manifest(
        version=_count(value["version"]),
        generation=_count(value["generation"]),
        attempt=str(value["attempt"]),
        execution=str(value.get("execution", "")),
        opened=_count(value.get("opened", 0)),
        identity=dict(value["identity"]),
        values=dict(value["values"]),
        mesh=dict(value.get("mesh", {})),
        world_size=_count(value.get("world_size", 1)),
        time=float(value.get("time", 0)),
        block=_count(value["block"]),
        files=[DataFile(str(path), _count(size)) for path, size in value["files"]],
        tensors={
            name: TensorRecord(
                dtype,
                _counts(shape),
                tuple(
                    Chunk(
                        Box(_counts(offsets), _counts(sizes)),
                        _count(file),
                        _count(start),
                        tuple(int(item, 16) for item in sums.split()),
                    )
                    for offsets, sizes, file, start, sums in chunks
                ),
            )
            for name, (dtype, shape, chunks) in value["tensors"].items()
        },
    )


def safe_path(path: str) -> bool:
    """Whether a path from a manifest stays below the checkpoint directory."""
    return all(_SAFE_PART.fullmatch(part) for part in path.split("/"))


def _faults(manifest: Manifest) -> list[str]:
    faults = [f"path {f.path!r} is not below it" for f in manifest.files if not safe_path(f.path)]
    if manifest.block < 1:
        return [*faults, "its block size is 0"]
    spans: list[list[tuple[int, int]]] = [[] for _ in manifest.files]
    for name, tensor in manifest.tensors.items():
        kind = ELEMENT_TYPES.get(tensor.dtype)
        if kind is None:
            faults.append(f"tensor {name!r} has the unknown element type {tensor.dtype!r}")
            continue
        fault = coverage_fault(tensor.shape, [chunk.box for chunk in tensor.chunks])
        if fault is not None:
            faults.append(f"tensor {name!r}: {fault}")
            continue
        for chunk in tensor.chunks:
            length = chunk.box.volume * kind.size
            if chunk.file >= len(manifest.files):
                faults.append(f"tensor {name!r} names file {chunk.file}, which is not listed")
            elif chunk.start + length > manifest.files[chunk.file].bytes:
                faults.append(f"tensor {name!r} reaches past its file's end")
            elif len(chunk.sums) != -(-length // manifest.block):
                faults.append(f"tensor {name!r} has {len(chunk.sums)} checksums")
            else:
                spans[chunk.file].append((chunk.start, chunk.start + length))
    for file, taken in zip(manifest.files, spans, strict=True):
        taken.sort()
        if any(end > start for (_, end), (start, _) in pairwise(taken)):
            faults.append(f"chunks overlap in {file.path}")
    return faults
