"""The manifest: what a checkpoint holds, where each box of each tensor lies, and its checksums.

One JSON document on three lines: a header small enough to list many checkpoints by, the tensors,
and a checksum of the lines before it. `docs/checkpoint-format.md` describes every key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import xxhash

from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.geometry import Box, coverage_fault
from trainer.errors import CheckpointDamaged
from trainer.names import ATTEMPT, DATA_PATH, named
from trainer.outside.document import loads
from trainer.outside.echo import cut, shown

JSON = Any
T = TypeVar("T")
FORMAT = "remesh.checkpoint"
FORMAT_VERSION = 1
MAX_DIMENSIONS = 64
MAX_BYTES = 1 << 60
MAX_TIME = 253_402_300_799
"""The last second of the year 9999: what lies past it has no date that could be shown."""


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
        value = loads(data)
    except ValueError as error:
        raise CheckpointDamaged(f"{path} is not a manifest: {error}") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise CheckpointDamaged(f"{path} is not a manifest: it says no format {FORMAT!r}")
    found = value.get("format_version")
    if type(found) is not int or not 1 <= found <= FORMAT_VERSION:
        raise CheckpointDamaged(
            f"{path} has format version {shown(found)}; this release reads 1 to {FORMAT_VERSION}: "
            "upgrade remesh to read it"
        )
    return value


def closed(first_line: bytes) -> bytes:
    """A record's first line as a JSON document of its own."""
    line = first_line.rstrip()
    return line[:-1] + b"}" if line.endswith(b",") else line


def decode_summary(first_line: bytes, path: str) -> Summary | None:
    """Read a record's first line; None for one that opens the log. Raises CheckpointDamaged."""
    value = json_object(closed(first_line), path)
    if value.get("kind") == "open" and not first_line.rstrip().endswith(b","):
        return None
    if value.get("kind") != "commit":
        raise CheckpointDamaged(f"{path} is of the unknown kind {shown(value.get('kind'))}")
    return checked(
        path,
        lambda: Summary(
            version=count(value["version"]),
            generation=count(value["generation"]),
            attempt=named(ATTEMPT, value["attempt"]),
            execution=text(value.get("execution", "")),
            identity=mapping(value["identity"]),
            mesh=mesh_sizes(value.get("mesh", {})),
            world_size=count(value.get("world_size", 1)),
            time=moment(value.get("time", 0)),
            bytes=count(value["bytes"]),
            tensors=count(value["tensor_count"]),
        ),
    )


def decode(data: bytes, path: str) -> Manifest:
    """Read and check a whole manifest. Raises CheckpointDamaged, naming `path` and the fault."""
    if not is_sealed(data):
        raise CheckpointDamaged(f"{path} is cut short or altered: its checksum is not its own")
    value = json_object(data, path)
    manifest = checked(path, lambda: manifest_of(value))
    for fault in _faults(manifest):
        raise CheckpointDamaged(f"{path} is not sound: {fault}")
    return manifest


def is_sealed(data: bytes) -> bool:
    """Whether a document's checksum is that of the lines before it."""
    body, separator, last = data.rpartition(b'"xxh3":"')
    return bool(separator) and last.rstrip() == f'{xxhash.xxh3_64_hexdigest(body)}"}}'.encode()


def checked(path: str, build: Callable[[], T]) -> T:
    """What `build` makes of a document. Raises CheckpointDamaged for keys missing or misshapen."""
    try:
        return build()
    except KeyError as error:
        raise CheckpointDamaged(f"{path} is not sound: {error} is missing") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointDamaged(f"{path} is not sound: {cut(str(error))}") from error


def count(value: JSON) -> int:
    """A number of things, bytes or steps. Raises ValueError for what is none."""
    if type(value) is not int or not 0 <= value <= MAX_BYTES:
        raise ValueError(f"{shown(value)} is no count")
    return value


def counts(value: JSON) -> tuple[int, ...]:
    """A shape, offsets or sizes. Raises ValueError for what is none."""
    if not isinstance(value, list):
        raise ValueError(f"{shown(value)} is no shape")
    if len(value) > MAX_DIMENSIONS:
        raise ValueError(f"a shape has {len(value)} dimensions")
    return tuple(count(item) for item in value)


def checksum(value: JSON) -> int:
    """An xxh3-64. Raises ValueError for what is none."""
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError(f"{shown(value)} is no checksum")
    return value


def moment(value: JSON) -> float:
    """Seconds since 1970. Raises ValueError for what no calendar has."""
    if type(value) not in (int, float) or not 0 <= value <= MAX_TIME:
        raise ValueError(f"{shown(value)} is no time")
    return float(value)


def mapping(value: JSON) -> dict[str, JSON]:
    """A JSON object. Raises ValueError for what is none."""
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} is no mapping")
    return value


def mesh_sizes(value: JSON) -> dict[str, int]:
    """Sizes by the names of a mesh's dimensions. Raises ValueError."""
    return {name: count(size) for name, size in mapping(value).items()}


def text(value: JSON) -> str:
    """A name. Raises ValueError for what is none."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no text")
    return value


def manifest_of(value: Mapping[str, JSON]) -> Manifest:
    """The manifest in a document. Raises what `checked` catches."""
    return Manifest(
        version=count(value["version"]),
        generation=count(value["generation"]),
        attempt=named(ATTEMPT, value["attempt"]),
        execution=text(value.get("execution", "")),
        opened=count(value.get("opened", 0)),
        identity=mapping(value["identity"]),
        values=mapping(value["values"]),
        mesh=mesh_sizes(value.get("mesh", {})),
        world_size=count(value.get("world_size", 1)),
        time=moment(value.get("time", 0)),
        block=count(value["block"]),
        files=[DataFile(named(DATA_PATH, path), count(size)) for path, size in value["files"]],
        tensors={
            name: TensorRecord(
                text(dtype),
                counts(shape),
                tuple(
                    Chunk(
                        Box(counts(offsets), counts(sizes)),
                        count(file),
                        count(start),
                        tuple(checksum(int(item, 16)) for item in text(sums).split()),
                    )
                    for offsets, sizes, file, start, sums in chunks
                ),
            )
            for name, (dtype, shape, chunks) in value["tensors"].items()
        },
    )


def _faults(manifest: Manifest) -> list[str]:
    own = f"data/{manifest.attempt}/"
    faults = [
        f"{file.path} is another attempt's"
        for file in manifest.files
        if not file.path.startswith(own)
    ]
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
