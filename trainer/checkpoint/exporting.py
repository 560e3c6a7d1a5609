"""A checkpoint in other formats, a tensor at a time, so that it need not fit in memory twice."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.checkpoint.checksum import Bytes
from trainer.checkpoint.datafile import BoxEntry, lay_out
from trainer.checkpoint.geometry import whole
from trainer.checkpoint.hf import config, to_hf
from trainer.checkpoint.manifest import Manifest
from trainer.checkpoint.store import LocalStore, Store
from trainer.checkpoint.tensors import host_bytes
from trainer.checkpoint.transfer import Wanted, read
from trainer.errors import JobError

JSON = Any
SHARD_BYTES = 4 << 30
MODEL_PREFIX = "model/"
Progress = Callable[[int], None]


def tensor_bytes(store: Store, manifest: Manifest, name: str) -> Bytes:
    """A whole tensor's bytes, verified. Raises CheckpointDamaged."""
    record = manifest.tensors[name]
    data = np.empty(record.bytes, dtype=np.uint8)
    if record.bytes:
        read(store, manifest, [Wanted(name, whole(record.shape), data)])
    return data


def read_tensor(store: Store, manifest: Manifest, name: str) -> torch.Tensor:
    """A whole tensor, verified. Raises CheckpointDamaged."""
    record = manifest.tensors[name]
    tensor = torch.empty(record.shape, dtype=getattr(torch, record.dtype))
    if record.bytes:
        read(store, manifest, [Wanted(name, whole(record.shape), host_bytes(tensor))])
    return tensor


def export_safetensors(
    store: Store,
    manifest: Manifest,
    target: Path,
    names: Mapping[str, str],
    progress: Progress,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Write safetensors files, with an index where there are several. `names`: ours to theirs."""
    shards = _shards(manifest, names, shard_bytes)
    files: list[Path] = []
    index: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        suffix = "" if len(shards) == 1 else f"-{number:05d}-of-{len(shards):05d}"
        entries = [_entry(manifest, name, names[name]) for name in shard]
        layout = lay_out(entries, {"format": "pt"})

        def parts(
            shard: Sequence[str] = shard, header: bytes = layout.header
        ) -> Iterator[memoryview]:
            yield memoryview(header)
            for name in shard:
                data = tensor_bytes(store, manifest, name)
                progress(len(data))
                yield data.data

        file = f"model{suffix}.safetensors"
        LocalStore(target).write(file, parts())
        files.append(target / file)
        index |= {names[name]: file for name in shard}
    if len(shards) > 1:
        total = sum(manifest.tensors[name].bytes for name in names)
        document = {"metadata": {"total_size": total}, "weight_map": index}
        files.append(_write_json(target / "model.safetensors.index.json", document))
    return files


def export_torch(
    store: Store, manifest: Manifest, target: Path, names: Mapping[str, str], progress: Progress
) -> list[Path]:
    """One file that `torch.load(…, weights_only=True)` reads: name to tensor."""
    state = _state(store, manifest, names, progress)
    file = target / "checkpoint.pt"
    torch.save(state, file)
    return [file]


def export_dcp(
    store: Store, manifest: Manifest, target: Path, names: Mapping[str, str], progress: Progress
) -> list[Path]:
    """A directory that `torch.distributed.checkpoint.load` reads: name to tensor."""
    from torch.distributed.checkpoint.state_dict_saver import save

    save(_state(store, manifest, names, progress), checkpoint_id=target, no_dist=True)
    return sorted(target.iterdir())


def export_hf(
    store: Store,
    manifest: Manifest,
    target: Path,
    sizes: Mapping[str, JSON],
    seq_len: int,
    progress: Progress,
) -> list[Path]:
    """What `transformers.AutoModelForCausalLM.from_pretrained` loads, of the reference decoder."""
    names = {}
    for name in weights(manifest):
        theirs = to_hf(name.removeprefix(MODEL_PREFIX))
        if theirs is None:
            raise JobError(
                f"{name} has no place in Hugging Face's Llama: export safetensors instead"
            )
        names[name] = theirs
    if not names:
        raise JobError("the checkpoint has no model/ tensors to export")
    dtype = manifest.tensors[next(iter(names))].dtype
    files = export_safetensors(store, manifest, target, names, progress)
    return [*files, _write_json(target / "config.json", config(sizes, seq_len, dtype))]


def weights(manifest: Manifest) -> list[str]:
    """The names of the model's tensors; of all, where none is marked as the model's."""
    return [name for name in manifest.tensors if name.startswith(MODEL_PREFIX)]


def job_sizes(manifest: Manifest, job: Path | None) -> tuple[dict[str, JSON], int]:
    """The sizes of the reference decoder and the length of its sequences, from the job file.

    Raises JobError when there is no job file, or its model is not the one in the checkpoint.
    """
    from trainer.job import load

    if job is None or not job.is_file():
        raise JobError("the model's sizes are not in the checkpoint: name its job file with --job")
    described = load(job)
    if described.model.factory is not None:
        raise JobError(f"{job} has a model of its own; only the reference decoder is Llama's like")
    sizes = dataclasses.asdict(described.model.sizes())
    embedding = manifest.tensors.get(f"{MODEL_PREFIX}tok_embeddings.weight")
    expected = (sizes["vocab"], sizes["dim"])
    if embedding is None or embedding.shape != expected:
        found = None if embedding is None else list(embedding.shape)
        raise JobError(f"{job} has embeddings of {list(expected)}, the checkpoint of {found}")
    return sizes, described.data.seq_len


def _shards(manifest: Manifest, names: Mapping[str, str], limit: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name in names:
        size = manifest.tensors[name].bytes
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _entry(manifest: Manifest, name: str, theirs: str) -> BoxEntry:
    record = manifest.tensors[name]
    return BoxEntry(theirs, record.dtype, record.shape, whole(record.shape))


def _state(
    store: Store, manifest: Manifest, names: Mapping[str, str], progress: Progress
) -> dict[str, Any]:
    state = {}
    for name, theirs in names.items():
        state[theirs] = read_tensor(store, manifest, name)
        progress(manifest.tensors[name].bytes)
    return state


def _write_json(path: Path, value: JSON) -> Path:
    path.write_text(json.dumps(value, indent=2) + "\n")
    return path
