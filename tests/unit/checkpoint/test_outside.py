"""Whatever a document says, nothing outside its directory is made, read or removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import xxhash
from safetensors.torch import save_file

import trainer.checkpoint as checkpoint
from trainer.checkpoint.attempt import receipts_at
from trainer.checkpoint.importing import read_foreign
from trainer.checkpoint.store import LocalStore
from trainer.errors import CheckpointDamaged, CheckpointError, JobError


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("attempt", ["../../evil/dir/x", "../up", "."])
def test_loading_makes_nothing_outside(tmp_path: Path, attempt: str) -> None:
    directory = tmp_path / "ck"
    checkpoint.save(str(directory), {"w": torch.ones(3)}, version=100)
    record = min((directory / "log").iterdir())
    data = record.read_bytes()
    own = json.loads(data)["attempt"].encode()
    data = data.rpartition(b'"xxh3":"')[0].replace(own, attempt.encode())
    record.write_bytes(data + f'"xxh3":"{xxhash.xxh3_64_hexdigest(data)}"}}\n'.encode())
    before = everything(tmp_path)
    with pytest.raises(CheckpointDamaged, match="attempt is"):
        checkpoint.load(str(directory), {"w": torch.zeros(3)})
    assert everything(tmp_path) == before


def test_a_version_that_no_record_could_tell_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a version is a whole number from 0 on, and not -5"):
        checkpoint.save(str(tmp_path), {"w": torch.ones(3)}, version=-5)


@pytest.mark.parametrize(
    "name", ["..", "/etc/passwd", "../x.safetensors", "a/b.safetensors", 7, {}]
)
def test_an_index_names_files_beside_it(tmp_path: Path, name: object) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for path in (tmp_path / "x.safetensors", source / "a.safetensors"):
        save_file({"w": torch.ones(3)}, path)
    index = source / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "a.safetensors", "w": name}}))
    with pytest.raises(JobError, match="no index of safetensors files"):
        read_foreign(source)
    index.write_text(json.dumps({"weight_map": {"w": "a.safetensors"}}))
    assert list(read_foreign(source)) == ["w"]


def test_what_is_no_receipt_is_passed_over(tmp_path: Path) -> None:
    attempt = "v00000001-g00001-0000000a"
    folder = tmp_path / "data" / attempt
    folder.mkdir(parents=True)
    for name in (
        "00001.receipt.json",
        "x.receipt.json",
        ".receipt.json",
        "-1.receipt.json",
        "+2.receipt.json",
    ):
        (folder / name).write_text("{}")
    assert receipts_at(LocalStore(tmp_path), attempt) == {1}
