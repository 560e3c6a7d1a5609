"""Checkpoints of other makes, damaged."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from tests.fuzz.mutations import altered, torn
from tests.fuzz.trial import ROUNDS, trial
from trainer.checkpoint.importing import INDEX, read_foreign
from trainer.errors import JobError

TENSORS = {"a": torch.arange(12.0).reshape(3, 4), "b.c": torch.ones(5, dtype=torch.bfloat16)}


def safetensors_file(root: Path) -> None:
    save_file(TENSORS, root / "m.safetensors")


def safetensors_index(root: Path) -> None:
    save_file(TENSORS, root / "m-1.safetensors")
    weights = dict.fromkeys(TENSORS, "m-1.safetensors")
    (root / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weights}))


def torch_file(root: Path) -> None:
    torch.save({"model": TENSORS, "step": 3}, root / "m.pt")


def old_torch_file(root: Path) -> None:
    torch.save({"m": TENSORS}, root / "m.pt", _use_new_zipfile_serialization=False)


def distributed(root: Path) -> None:
    dcp.save({"model": TENSORS}, checkpoint_id=root, no_dist=True)


KINDS = {
    "a safetensors file": (safetensors_file, "m.safetensors", 1500),
    "an index": (safetensors_index, "", 800),
    "a torch file": (torch_file, "m.pt", 500),
    "an old torch file": (old_torch_file, "m.pt", 800),
    "a distributed one": (distributed, "", 300),
}


@ROUNDS
@pytest.mark.parametrize("kind", KINDS)
def test_foreign_checkpoints(tmp_path: Path, kind: str, rounds: int) -> None:
    make, source, count = KINDS[kind]
    good = tmp_path / "good"
    good.mkdir()
    make(good)
    read_foreign(good / source)
    files = {path.name: path.read_bytes() for path in sorted(good.iterdir())}
    root = tmp_path / "root"
    shutil.copytree(good, root)

    def damage(rng: random.Random) -> tuple[str, bytes]:
        name = rng.choice(sorted(files))
        data = files[name]
        if name == INDEX and rng.random() < 0.8:
            return name, json.dumps(altered(json.loads(data), rng)).encode()
        if name.endswith(".safetensors") and rng.random() < 0.7:
            length = int.from_bytes(data[:8], "little")
            header = json.dumps(altered(json.loads(data[8 : 8 + length]), rng)).encode()
            return name, len(header).to_bytes(8, "little") + header + data[8 + length :]
        return name, torn(data, rng)

    def read(given: tuple[str, bytes]) -> None:
        name, data = given
        # A file of its own each time: what was read before may be mapped still.
        (root / name).unlink(missing_ok=True)
        (root / name).write_bytes(data)
        try:
            tensors = read_foreign(root / source)
            assert all(type(key) is str for key in tensors)
            assert sum(tensor.nbytes for tensor in tensors.values()) < 1 << 20
        finally:
            (root / name).unlink()
            (root / name).write_bytes(files[name])

    trial(f"foreign: {kind}", damage, read, JobError, count=count, rounds=rounds)
