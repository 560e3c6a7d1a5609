"""Checkpoints of other makes, read without running what is in them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint.checkpointer import Checkpointer
from trainer.checkpoint.foreign import READING_FAULTS, check_sizes, said
from trainer.checkpoint.hf import from_hf, is_hf_llama
from trainer.checkpoint.results import Commit
from trainer.errors import JobError
from trainer.names import SAFETENSORS_FILE, named
from trainer.outside.document import loads
from trainer.outside.echo import cut, shown

JSON = Any
MODEL_PREFIX = "model/"
INDEX = "model.safetensors.index.json"
MAX_DEPTH = 64
MAX_NAME = 4096


def read_foreign(source: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file or directory, a DCP directory, or a `torch.save` file.

    Raises JobError, naming the source, for anything else and for a pickle that holds more than
    tensors and plain values.
    """
    if source.is_dir():
        if (source / ".metadata").is_file():
            from trainer.checkpoint.dcp_reader import read_dcp

            return read_dcp(source)
        return _read_safetensors(_safetensors_files(source))
    if not source.is_file():
        raise JobError(f"{source} is not there")
    if source.suffix == ".safetensors":
        return _read_safetensors([source])
    return _read_torch(source)


def import_checkpoint(
    source: Path,
    directory: str,
    *,
    identity: Mapping[str, JSON],
    version: int = 0,
    moments: Sequence[str] = (),
    raw: bool = False,
    progress: Callable[[int, int], None] = lambda count, total: None,
) -> Commit:
    """Commit a foreign checkpoint's tensors to a checkpoint directory.

    Unless `raw`, tensors are named as a job's are: Hugging Face's Llama becomes the reference
    decoder, and names get `model/` before them where they have no such part yet. For each of
    `moments` (`exp_avg`, `exp_avg_sq`) zeros are added, with which a job can begin at once.
    `progress` hears of each run of bytes, and of all there are.
    """
    tensors = read_foreign(source)
    if not tensors:
        raise JobError(f"{source} holds no tensors")
    if not raw:
        tensors = _as_job(tensors)
        tensors |= {
            f"optim/{name.removeprefix(MODEL_PREFIX)}/{moment}": torch.zeros_like(tensor)
            for name, tensor in list(tensors.items())
            if name.startswith(MODEL_PREFIX)
            for moment in moments
        }
    checkpointer = Checkpointer(
        directory, identity=identity, rank=0, world_size=1, generation=0, group=None
    )
    total = sum(tensor.nbytes for tensor in tensors.values())
    return checkpointer.save(
        version, tensors, {"imported": str(source)}, lambda count: progress(count, total)
    )


def _as_job(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if is_hf_llama(tensors):
        return {f"{MODEL_PREFIX}{from_hf(name)}": tensor for name, tensor in tensors.items()}
    if any(name.startswith((MODEL_PREFIX, "optim/")) for name in tensors):
        return dict(tensors)
    return {f"{MODEL_PREFIX}{name}": tensor for name, tensor in tensors.items()}


def _safetensors_files(source: Path) -> list[Path]:
    index = source / INDEX
    if index.is_file():
        try:
            weight_map = loads(index.read_bytes())["weight_map"]
            names = sorted({named(SAFETENSORS_FILE, name) for name in weight_map.values()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JobError(
                f"{index} is no index of safetensors files: {cut(str(error))}"
            ) from error
        files = [source / name for name in names]
    else:
        files = sorted(source.glob("*.safetensors"))
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise JobError(f"{missing[0] if missing else source} holds no safetensors file")
    return files


def _read_safetensors(files: Sequence[Path]) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            found = load_file(file)
        except (*READING_FAULTS, _safetensor_error()) as error:
            raise JobError(f"{file} is no safetensors file: {said(error)}") from error
        twice = next((name for name in found if name in tensors), None)
        if twice is not None:
            raise JobError(f"{file} holds {shown(twice)}, which another file holds too")
        tensors |= found
    return tensors


def _safetensor_error() -> type[Exception]:
    from safetensors import SafetensorError

    error: type[Exception] = SafetensorError
    return error


def _read_torch(source: Path) -> dict[str, torch.Tensor]:
    try:
        # Only the newer kind, which is a zip file, can be mapped.
        mapped = zipfile.is_zipfile(source)
        state = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except READING_FAULTS as error:
        raise JobError(
            f"{source} can't be read as tensors and plain values: {said(error)}"
        ) from error
    tensors = dict(_tensors_in("", state, source, 0))
    check_sizes(tensors, source.stat().st_size, source)
    return tensors


def _tensors_in(
    prefix: str, item: Any, source: Path, depth: int
) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(item, torch.Tensor):
        if item.layout is not torch.strided or item.device.type != "cpu":
            raise JobError(f"{source}: {shown(prefix)} has no plain values in host memory")
        yield prefix, item.detach()
    if not isinstance(item, Mapping):
        return
    if depth > MAX_DEPTH:
        raise JobError(f"{source} is nested too deeply: its mappings hold each other")
    seen: set[str] = set()
    for key, inner in item.items():
        name = key if isinstance(key, str) else cut(str(key)) if type(key) is int else ""
        if not name or name in seen or len(name) > MAX_NAME:
            raise JobError(f"{source} has the key {shown(key)}, which can't name a tensor")
        seen.add(name)
        yield from _tensors_in(f"{prefix}/{name}" if prefix else name, inner, source, depth + 1)
