"""Read torch's distributed checkpoints, whose metadata is a pickle, without running what it says.

Only the classes that such metadata is made of can be named in it.
"""

from __future__ import annotations

import io
import math
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, ClassVar

import torch
from torch.distributed.checkpoint import metadata as kinds
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from trainer.checkpoint.foreign import MOST_SHARED, READING_FAULTS, said
from trainer.checkpoint.geometry import Box, coverage_fault
from trainer.checkpoint.manifest import MAX_BYTES, MAX_DIMENSIONS
from trainer.errors import JobError
from trainer.names import DCP_FILE, named
from trainer.outside.echo import shown

_CLASSES = {
    (kinds.__name__, name)
    for name in (
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    )
} | {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("collections", "OrderedDict"),
}


class _Unpickler(pickle._Unpickler):
    """The one written in Python: to the other, five bytes can be a claim to 32 GiB."""

    dispatch: ClassVar = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        # It makes as many bytes as a number says, before it reads any.
        if code != pickle.BYTEARRAY8[0]
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("pathlib", "PosixPath"):
            return PurePosixPath
        if (module, name) in _CLASSES:
            return super().find_class(module, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no checkpoint needs")


class _Reader(FileSystemReader):
    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self._source = source

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (self._source / ".metadata").open("rb") as file:
            metadata = _checked(file, self._source)
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


def _checked(file: IO[bytes], source: Path) -> Metadata:
    """The metadata, in which every name, number and kind is as torch writes it. Raises JobError."""
    try:
        metadata = _Unpickler(io.BytesIO(file.read())).load()
        if not isinstance(metadata, Metadata):
            raise ValueError("it is no distributed checkpoint's")
        sizes = {path.name: path.stat().st_size for path in source.iterdir() if path.is_file()}
        _check_storage(metadata.storage_data, sizes)
        _check_tensors(metadata.state_dict_metadata, metadata.storage_data, sum(sizes.values()))
    except READING_FAULTS as error:
        raise JobError(f"{source}/.metadata is not to be read: {said(error)}") from error
    return metadata


def _check_storage(storage: Any, sizes: Mapping[str, int]) -> None:
    """Where each part lies: within a file that is there. Raises ValueError."""
    if not isinstance(storage, dict):
        raise ValueError("it says nothing of where its parts lie")
    for index, place in storage.items():
        if not isinstance(index, kinds.MetadataIndex) or not isinstance(place, _StorageInfo):
            raise ValueError("it says nothing of where its parts lie")
        path = named(DCP_FILE, place.relative_path)
        if path not in sizes:
            raise ValueError(f"{path} is missing")
        start, length = _count(place.offset), _count(place.length)
        if start + length > sizes[path]:
            raise ValueError(f"{path} is cut short")


def _check_tensors(tensors: Any, storage: Mapping[Any, Any], there: int) -> None:
    """Each is whole, each of its chunks lies somewhere, and all fit into the files' bytes.

    Raises ValueError.
    """
    if not isinstance(tensors, dict):
        raise ValueError("it names no tensors")
    total = 0
    for name, item in tensors.items():
        if not isinstance(name, str):
            raise ValueError(f"{shown(name)} names no tensor")
        if not isinstance(item, TensorStorageMetadata):
            continue
        dtype = item.properties.dtype
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{shown(name)} has no element type")
        shape = _shape(item.size)
        boxes = [Box(_shape(chunk.offsets), _shape(chunk.sizes)) for chunk in item.chunks]
        total += math.prod(shape) * dtype.itemsize
        # An empty tensor has a chunk of its own there, which covers nothing.
        fault = coverage_fault(shape, [box for box in boxes if box.volume])
        if fault is not None or total > MOST_SHARED * there:
            raise ValueError(f"{shown(name)}: {fault or 'there are not so many values'}")
        for box in boxes:
            if kinds.MetadataIndex(name, box.offsets) not in storage:
                raise ValueError(f"{shown(name)} is not all there")


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, torch.Size) or len(value) > MAX_DIMENSIONS:
        raise ValueError(f"{shown(value)} is no shape")
    return tuple(_count(size) for size in value)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_BYTES:
        raise ValueError(f"{shown(value)} is no count")
    return value


def read_dcp(source: Path) -> dict[str, torch.Tensor]:
    """The tensors of a distributed checkpoint, whole. Raises JobError."""
    reader = _Reader(source)
    try:
        state: dict[str, Any] = {
            name: torch.empty(item.size, dtype=item.properties.dtype)
            for name, item in reader.read_metadata().state_dict_metadata.items()
            if isinstance(item, TensorStorageMetadata)
        }
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(state, storage_reader=reader, no_dist=True)
    except CheckpointException as error:
        first = next((failure for failure, _trace in error.failures.values()), error)
        raise JobError(f"{source} can't be read: {said(first)}") from error
    except READING_FAULTS as error:
        raise JobError(f"{source} can't be read: {said(error)}") from error
    return state
