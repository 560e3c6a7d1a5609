"""From data files into memory: read the boxes that a rank needs.

Imports no torch: memory comes as numpy arrays of bytes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from trainer.checkpoint.checksum import BlockSums, Bytes
from trainer.checkpoint.datafile import (
    ATTEMPT_KEY,
    VERSION_KEY,
    header_length,
    parse_header,
)
from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.geometry import Box, contiguous, cut_rows, intersect, slices, span, within
from trainer.checkpoint.manifest import Chunk, Manifest
from trainer.checkpoint.store import Store
from trainer.errors import CheckpointDamaged
from trainer.supervision import in_threads

SLAB_BYTES = 32 << 20
HEADER_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Wanted:
    """A box to read, and where it goes: bytes, row by row, as many as the box has."""

    name: str
    box: Box
    target: Bytes


@dataclass(frozen=True, slots=True)
class _Straight:
    """A byte range of a chunk that is also one range of the target."""

    chunk: Chunk
    length: int
    first: int
    last: int
    target: Bytes

    @property
    def position(self) -> tuple[int, int]:
        return self.chunk.file, self.chunk.start + self.first


@dataclass(frozen=True, slots=True)
class _Strided:
    """A part of a chunk that lies scattered in it or in the target; `size` bytes an element."""

    chunk: Chunk
    size: int
    source: Box
    wanted: Wanted
    into: Box

    @property
    def position(self) -> tuple[int, int]:
        return self.chunk.file, self.chunk.start + span(self.chunk.box.sizes, self.source)[0]


def read(store: Store, manifest: Manifest, wanted: Iterable[Wanted], *, threads: int = 4) -> int:
    """Read every wanted box straight into place, verifying each block. Returns bytes read.

    Raises CheckpointDamaged, naming the file, and KeyError for a tensor the manifest lacks.
    """
    pieces = [piece for item in wanted for piece in _pieces(manifest, item)]
    pieces.sort(key=lambda piece: piece.position)
    scratch = _Scratch()

    def read_one(piece: _Straight | _Strided) -> int:
        if isinstance(piece, _Straight):
            return _read_straight(store, manifest, piece, scratch)
        return _read_strided(store, manifest, piece, scratch)

    files = sorted({piece.chunk.file for piece in pieces})
    in_threads(lambda index: check_file(store, manifest, index), files, threads=threads)
    return sum(in_threads(read_one, pieces, threads=threads))


def check_file(store: Store, manifest: Manifest, index: int) -> None:
    """Whether a data file is as long as it should be, and says that it is of this checkpoint.

    Raises CheckpointDamaged, naming the file.
    """
    file = manifest.files[index]
    with _named(store, file.path):
        size = store.size(file.path)
        start = store.read(file.path, 0, HEADER_BYTES)
        length = header_length(start[:8], file.path, size)
        if length + 8 > len(start):
            start += store.read(file.path, len(start), length + 8 - len(start))
    tag = parse_header(start[8 : 8 + length], file.path).get("__metadata__", {})
    if size != file.bytes:
        raise CheckpointDamaged(f"{file.path} in {store.url} has {size} bytes of {file.bytes}")
    if tag.get(VERSION_KEY) != str(manifest.version) or tag.get(ATTEMPT_KEY) != manifest.attempt:
        raise CheckpointDamaged(
            f"{file.path} in {store.url} says that it belongs to another checkpoint: version "
            f"{tag.get(VERSION_KEY)}, attempt {tag.get(ATTEMPT_KEY)}"
        )


@contextlib.contextmanager
def _named(store: Store, path: str) -> Iterator[None]:
    """What goes wrong with a file names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointDamaged(f"{path} is missing from {store.url}") from error
    except OSError as error:
        raise CheckpointDamaged(f"{path} in {store.url} can't be read: {error}") from error


def _pieces(manifest: Manifest, wanted: Wanted) -> Iterator[_Straight | _Strided]:
    record = manifest.tensors[wanted.name]
    size = ELEMENT_TYPES[record.dtype].size
    slab = max(SLAB_BYTES // manifest.block, 1) * manifest.block
    for chunk in record.chunks:
        common = intersect(chunk.box, wanted.box)
        if common is None:
            continue
        source, into = within(common, chunk.box), within(common, wanted.box)
        if contiguous(chunk.box.sizes, source) and contiguous(wanted.box.sizes, into):
            first, last = (edge * size for edge in span(chunk.box.sizes, source))
            length = chunk.box.volume * size
            at = span(wanted.box.sizes, into)[0] * size - first
            for low, high in pairwise(_edges(first, last, length, manifest.block, slab)):
                yield _Straight(chunk, length, low, high, wanted.target[at + low : at + high])
            continue
        for part in cut_rows(common, -(-common.volume * size // SLAB_BYTES)):
            yield _Strided(chunk, size, within(part, chunk.box), wanted, within(part, wanted.box))


def _edges(first: int, last: int, length: int, block: int, slab: int) -> list[int]:
    """Where to cut bytes `first` to `last` of a chunk: at slabs, and where whole blocks begin and
    end, so that all but what lies at the two ends can be read into place."""
    inner = set(range(first // slab * slab + slab, last, slab))
    inner.add(-(-first // block) * block)
    if last != length:
        inner.add(last // block * block)
    return [first, *sorted(edge for edge in inner if first < edge < last), last]


class _Scratch(threading.local):
    """Memory that a thread uses again and again; fresh pages cost as much as reading into them."""

    def __init__(self) -> None:
        self._data = np.empty(0, dtype=np.uint8)

    def take(self, size: int) -> Bytes:
        if len(self._data) < size:
            self._data = np.empty(size, dtype=np.uint8)
        return self._data[:size]


def _blocks(manifest: Manifest, first: int, last: int, length: int) -> tuple[int, int]:
    """The whole blocks of a chunk that cover these bytes of it: what has to be read to verify."""
    block = manifest.block
    return first // block * block, min(-(-last // block) * block, length)


def _read_straight(store: Store, manifest: Manifest, piece: _Straight, scratch: _Scratch) -> int:
    low, high = _blocks(manifest, piece.first, piece.last, piece.length)
    if (low, high) == (piece.first, piece.last):
        read_blocks(store, manifest, piece.chunk, low, piece.target)
    else:
        data = scratch.take(high - low)
        read_blocks(store, manifest, piece.chunk, low, data)
        piece.target[:] = data[piece.first - low : piece.last - low]
    return high - low


def _read_strided(store: Store, manifest: Manifest, piece: _Strided, scratch: _Scratch) -> int:
    first, last = (edge * piece.size for edge in span(piece.chunk.box.sizes, piece.source))
    low, high = _blocks(manifest, first, last, piece.chunk.box.volume * piece.size)
    data = scratch.take(high - low)
    read_blocks(store, manifest, piece.chunk, low, data)
    _copy_box(data[first - low : last - low], piece)
    return high - low


def _copy_box(data: Bytes, piece: _Strided) -> None:
    """Copy the box out of the span that covers it: as a strided view of that span."""
    sizes = piece.chunk.box.sizes
    strides = [piece.size] * (len(sizes) + 1)
    strides[-1] = 1
    for dim in range(len(sizes) - 2, -1, -1):
        strides[dim] = strides[dim + 1] * sizes[dim + 1]
    source = np.lib.stride_tricks.as_strided(
        data, (*piece.source.sizes, piece.size), strides, writeable=False
    )
    target = piece.wanted.target.reshape((*piece.wanted.box.sizes, piece.size))
    target[slices(piece.into)] = source


def read_blocks(store: Store, manifest: Manifest, chunk: Chunk, start: int, target: Bytes) -> None:
    """Read whole blocks of a chunk, `start` a block's first byte in it, and verify each.

    Raises CheckpointDamaged, naming the file.
    """
    path = manifest.files[chunk.file].path
    sums = BlockSums(manifest.block, manifest.version)
    with _named(store, path):
        count = store.read_into(path, chunk.start + start, target.data, sums.add)
    if count != len(target):
        raise CheckpointDamaged(f"{path} in {store.url} is cut short")
    index = start // manifest.block
    for at, found in enumerate(sums.finish()):
        if found != chunk.sums[index + at]:
            raise CheckpointDamaged(
                f"{path} in {store.url} is altered at byte "
                f"{chunk.start + start + at * manifest.block}: its checksum is not the manifest's"
            )
