"""A damaged checkpoint of another make is refused in a line, and nothing is committed."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch.distributed.checkpoint.metadata import Metadata

from trainer.checkpoint.importing import INDEX, read_foreign
from trainer.command import main

TENSORS = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5, dtype=torch.bfloat16)}


@pytest.fixture
def distributed(tmp_path: Path) -> Path:
    source = tmp_path / "dcp"
    dcp.save(dict(TENSORS), checkpoint_id=source, no_dist=True)
    return source


def refused(source: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that is said."""
    target = source.parent / "target"
    assert main(["checkpoint", "import", str(source), str(target)]) == 2
    assert not target.exists()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert len(lines[0]) < 1200
    return lines[0]


def rewrite(source: Path, change: Callable[[Metadata], object]) -> None:
    path = source / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    change(metadata)
    path.write_bytes(pickle.dumps(metadata))


def data_file(source: Path) -> Path:
    return next(source.glob("*.distcp"))


def test_a_distributed_one_is_read(distributed: Path) -> None:
    found = read_foreign(distributed)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        name: tensor.tolist() for name, tensor in TENSORS.items()
    }


def set_all(key: str, value: Any) -> Callable[[Metadata], None]:
    """Of every place where a part lies."""

    def change(metadata: Metadata) -> None:
        for place in (metadata.storage_data or {}).values():
            setattr(place, key, value)

    return change


def of_a(key: str, value: Any) -> Callable[[Metadata], None]:
    def change(metadata: Metadata) -> None:
        setattr(metadata.state_dict_metadata["a"], key, value)

    return change


DAMAGES: dict[str, Callable[[Metadata], object]] = {
    "no file of that name": set_all("relative_path", "__9_0.distcp"),
    "a file elsewhere": set_all("relative_path", "../x.distcp"),
    "a name that is none": set_all("relative_path", 7),
    "an offset past the end": set_all("offset", 1 << 40),
    "an offset before the file": set_all("offset", -1),
    "a length of text": set_all("length", "9"),
    "a size of 2^50": of_a("size", torch.Size([1 << 50])),
    "a size of text": of_a("size", "3x4"),
    "no chunks": of_a("chunks", []),
    "no places": lambda metadata: setattr(metadata, "storage_data", None),
    "no tensors' names": lambda metadata: setattr(metadata, "state_dict_metadata", [1]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_metadata_that_does_not_fit(
    distributed: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    rewrite(distributed, DAMAGES[damage])
    assert str(distributed) in refused(distributed, capsys)


def test_metadata_that_would_run_something(
    distributed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (distributed / ".metadata").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert "which no checkpoint needs" in refused(distributed, capsys)


CLAIM = 1 << 22
CLAIMS = {
    "a place far off": b"\x80\x02}r" + CLAIM.to_bytes(4, "little") + b".",
    "many bytes": b"\x80\x05\x96" + (8 * CLAIM).to_bytes(8, "little") + b".",
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_metadata_that_claims_memory(
    distributed: Path, capsys: pytest.CaptureFixture[str], claim: str
) -> None:
    (distributed / ".metadata").write_bytes(CLAIMS[claim])
    tracemalloc.start()
    try:
        refused(distributed, capsys)
        assert tracemalloc.get_traced_memory()[1] < 4 * CLAIM
    finally:
        tracemalloc.stop()


def test_metadata_of_something_else(distributed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (distributed / ".metadata").write_bytes(pickle.dumps({"a": 1}))
    assert "no distributed checkpoint's" in refused(distributed, capsys)


@pytest.mark.parametrize("at", [0, 100, 900])
def test_a_data_file_with_a_hole(
    distributed: Path, capsys: pytest.CaptureFixture[str], at: int
) -> None:
    file = data_file(distributed)
    data = file.read_bytes()
    file.write_bytes(data[:at] + b"\xff" * 400 + data[at + 400 :])
    line = refused(distributed, capsys)
    assert "can't be read" in line
    # torch's own words go on with how to load it without any check.
    assert "weights_only" not in line
    assert "do those steps" not in line


def test_a_data_file_cut_short(distributed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = data_file(distributed)
    file.write_bytes(file.read_bytes()[:-200])
    assert "is cut short" in refused(distributed, capsys)


@pytest.mark.parametrize(
    "index",
    [
        [],
        {},
        {"weight_map": None},
        {"weight_map": ["m-1.safetensors"]},
        {"weight_map": {"a": {}}},
        {"weight_map": {"a": {"x": 1}, "b": "m-1.safetensors"}},
        {"weight_map": {"a": "missing.safetensors"}},
        {"weight_map": {"a": "y" * 100_000}},
    ],
    ids=lambda index: str(index)[:40],
)
def test_an_index_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], index: object
) -> None:
    source = tmp_path / "sh"
    source.mkdir()
    save_file(TENSORS, source / "m-1.safetensors")
    (source / INDEX).write_text(json.dumps(index))
    assert str(source) in refused(source, capsys)


def test_a_torch_file_of_either_kind_is_read(tmp_path: Path) -> None:
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pt"
        torch.save({"m": TENSORS}, path, _use_new_zipfile_serialization=zipped)
        assert sorted(read_foreign(path)) == ["m/a", "m/b"]


class Runs:
    def __reduce__(self) -> Any:
        return print, ("run",)


BAD: dict[str, Any] = {
    "a program": {"a": Runs()},
    "more values than bytes": {"a": torch.ones(1).expand(1 << 40)},
    "a key that names nothing": {(1, 2): torch.ones(1)},
    "one name twice": {1: torch.ones(1), "1": torch.ones(1)},
    "no values at all": {"a": torch.ones(2, device="meta")},
    "sparse values": {"a": torch.ones(2, 2).to_sparse()},
    "no tensors": {"step": 3},
}


@pytest.mark.parametrize("bad", BAD)
def test_a_torch_file_that_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: str
) -> None:
    source = tmp_path / "m.pt"
    torch.save(BAD[bad], source)
    assert "do those steps" not in refused(source, capsys)


def test_mappings_that_hold_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ring: dict[str, Any] = {"a": torch.ones(1)}
    ring["again"] = ring
    torch.save(ring, tmp_path / "m.pt")
    assert "nested too deeply" in refused(tmp_path / "m.pt", capsys)


def test_a_tensor_in_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "two"
    source.mkdir()
    for number in (1, 2):
        save_file(TENSORS, source / f"m-{number}.safetensors")
    assert "another file holds too" in refused(source, capsys)
