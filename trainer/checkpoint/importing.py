"""Checkpoints of other makes, read without running what is in them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint.checkpointer import Checkpointer
from trainer.checkpoint.hf import from_hf, is_hf_llama
from trainer.checkpoint.results import Commit
from trainer.errors import JobError
from trainer.names import SAFETENSORS_FILE, named
from trainer.outside.document import loads
from trainer.outside.echo import cut

JSON = Any
MODEL_PREFIX = "model/"
INDEX = "model.safetensors.index.json"


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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(file)
        except SafetensorError as error:
            raise JobError(f"{file} is no safetensors file: {error}") from error
    return tensors


def _read_torch(source: Path) -> dict[str, torch.Tensor]:
    try:
        state = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise JobError(f"{source} can't be read as tensors and plain values: {line}") from error
    return _tensors_in("", state)


def _tensors_in(prefix: str, item: Any) -> dict[str, torch.Tensor]:
    if isinstance(item, torch.Tensor):
        return {prefix: item.detach()}
    if not isinstance(item, Mapping):
        return {}
    found: dict[str, torch.Tensor] = {}
    for key, inner in item.items():
        found |= _tensors_in(f"{prefix}/{key}" if prefix else str(key), inner)
    return found
