"""Read torch's distributed checkpoints, whose metadata is a pickle, without running what it says.

Only the classes that such metadata is made of can be named in it.
"""

from __future__ import annotations

import pickle
from pathlib import Path, PurePosixPath
from typing import IO, Any

import torch
from torch.distributed.checkpoint import metadata as kinds
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from trainer.errors import JobError
from trainer.names import DCP_FILE, named

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


class _Unpickler(pickle.Unpickler):
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
    try:
        metadata = _Unpickler(file).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, TypeError, ValueError) as error:
        raise JobError(f"{source}/.metadata is not to be read: {error}") from error
    if not isinstance(metadata, Metadata):
        raise JobError(f"{source}/.metadata is no distributed checkpoint's")
    for item in (metadata.storage_data or {}).values():
        try:
            named(DCP_FILE, item.relative_path)
        except ValueError as error:
            raise JobError(f"{source}/.metadata is not to be read: {error}") from error
    return metadata


def read_dcp(source: Path) -> dict[str, torch.Tensor]:
    """The tensors of a distributed checkpoint, whole. Raises JobError."""
    reader = _Reader(source)
    state: dict[str, Any] = {
        name: torch.empty(item.size, dtype=item.properties.dtype)
        for name, item in reader.read_metadata().state_dict_metadata.items()
        if isinstance(item, TensorStorageMetadata)
    }
    load(state, storage_reader=reader, no_dist=True)
    return state
