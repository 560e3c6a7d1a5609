"""One rank saves and loads: element types, layouts, mismatches, damage, fences, keeping."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from trainer.checkpoint import Checkpointer, log
from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.keep import Keep
from trainer.checkpoint.store import LocalStore
from trainer.errors import (
    CheckpointDamaged,
    CheckpointError,
    CheckpointMismatch,
    GenerationOver,
    JobError,
)


def one_rank(directory: Path, **options: object) -> Checkpointer:
    defaults = {"identity": {"model": "m"}, "rank": 0, "world_size": 1, "generation": 1}
    return Checkpointer(directory, **{**defaults, **options})


def blank(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def data_files(directory: Path) -> list[Path]:
    """Oldest version first."""
    return sorted(directory.glob("data/*/*.safetensors"))


@pytest.mark.parametrize("dtype", sorted(ELEMENT_TYPES))
def test_every_element_type_comes_back_to_the_bit(tmp_path: Path, dtype: str) -> None:
    size = ELEMENT_TYPES[dtype].size
    kind = getattr(torch, dtype)
    state = {}
    for name, shape in {"0d": (), "empty": (3, 0), "matrix": (5, 7), "vector": (11,)}.items():
        count = torch.Size(shape).numel()
        data = torch.randint(0, 2 if dtype == "bool" else 256, (count * size,), dtype=torch.uint8)
        tensor = torch.empty(shape, dtype=kind)
        if count:
            tensor.reshape(-1).view(torch.uint8).copy_(data)
        state[name] = tensor
    checkpointer = one_rank(tmp_path)
    checkpointer.save(3, state, {})
    found = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    loaded = checkpointer.load(found)
    assert loaded is not None
    assert loaded.version == 3
    for name, tensor in state.items():
        if tensor.numel():
            assert bits(found[name]) == bits(tensor), name


def test_views_are_saved_and_filled_as_what_they_show(tmp_path: Path) -> None:
    base = torch.arange(24.0).view(4, 6)
    state = {
        "transposed": base.t(),
        "strided": base[::2, 1::2],
        "expanded": torch.arange(3.0).expand(2, 3).clone(),
        "conjugate": torch.view_as_complex(torch.randn(3, 2)).conj(),
    }
    checkpointer = one_rank(tmp_path)
    checkpointer.save(1, state, {})
    room = torch.full((4, 6), -1.0)
    found = {
        "transposed": torch.zeros(4, 6).t(),
        "strided": room[::2, 1::2],
        "expanded": torch.zeros(2, 3),
        "conjugate": torch.zeros(3, dtype=torch.complex64).conj(),
    }
    checkpointer.load(found)
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor), name
    assert (room[1::2] == -1).all()


def test_parameters_that_train_are_filled_in_place(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 4)
    checkpointer = one_rank(tmp_path)
    checkpointer.save(1, dict(model.named_parameters()), {})
    other = torch.nn.Linear(3, 4)
    weight = other.weight
    checkpointer.load(dict(other.named_parameters()))
    assert other.weight is weight
    assert torch.equal(weight, model.weight)


def test_values_come_back(tmp_path: Path) -> None:
    values = {"cursor": [1, {"a": None}], "rng": 2**63 + 1, "lr": 0.1, "inf": float("inf")}
    checkpointer = one_rank(tmp_path)
    commit = checkpointer.save(9, {"a": torch.ones(2)}, values)
    assert Path(commit.path).is_file()
    assert commit.bytes == sum(file.stat().st_size for file in data_files(tmp_path))
    loaded = checkpointer.load({"a": torch.zeros(2)})
    assert loaded is not None
    assert loaded.values == values
    assert checkpointer.newest_version() == 9


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    checkpointer = one_rank(tmp_path / "new")
    assert checkpointer.load({"a": torch.ones(1)}) is None
    assert checkpointer.newest_version() is None


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"a": torch.ones(2, 3), "c": torch.ones(1)}, "c is not in it"),
        ({"a": torch.ones(2, 3)}, "b has no place here"),
        ({"a": torch.ones(3, 2), "b": torch.ones(1)}, r"a is \[2, 3\] there and \[3, 2\] here"),
        ({"a": torch.ones(2, 3).half(), "b": torch.ones(1)}, "a is float32 there and float16"),
    ],
)
def test_another_model_is_refused_and_nothing_is_touched(
    tmp_path: Path, wanted: dict[str, torch.Tensor], words: str
) -> None:
    one_rank(tmp_path).save(1, {"a": torch.zeros(2, 3), "b": torch.zeros(1)}, {})
    with pytest.raises(CheckpointMismatch, match=words) as caught:
        one_rank(tmp_path).load(wanted)
    assert isinstance(caught.value, JobError)
    assert "checkpoint.directory" in str(caught.value)
    assert all((tensor == 1).all() for tensor in wanted.values())


def test_another_identity_is_refused_with_the_first_differences(tmp_path: Path) -> None:
    saved = {"model": {"dim": 64, "layers": 2, "heads": 4}, "tied": False}
    one_rank(tmp_path, identity=saved).save(1, {"a": torch.ones(1)}, {})
    wanted = {"model": {"dim": 128, "layers": 2}, "tied": False, "x": 1}
    with pytest.raises(CheckpointMismatch) as caught:
        one_rank(tmp_path, identity=wanted).load({"a": torch.ones(1)})
    assert "model.dim is 64 there and 128 here" in str(caught.value)
    assert "model.heads is 4 there and absent here" in str(caught.value)
    assert one_rank(tmp_path, identity=None).load({"a": torch.ones(1)}) is not None


def damage_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 4
    path.write_bytes(data)


def damage_length(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_missing(path: Path) -> None:
    path.unlink()


def damage_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [damage_bit, damage_length, damage_missing, damage_directory])
def test_a_damaged_file_is_named_and_the_checkpoint_before_is_taken(
    tmp_path: Path, damage, caplog: pytest.LogCaptureFixture
) -> None:
    checkpointer = one_rank(tmp_path)
    first, second = {"a": torch.full((9,), 1.0)}, {"a": torch.full((9,), 2.0)}
    checkpointer.save(1, first, {})
    checkpointer.save(2, second, {})
    older, newer = data_files(tmp_path)
    damage(newer)
    found = blank(first)
    loaded = checkpointer.load(found)
    assert loaded is not None
    assert loaded.version == 1
    assert torch.equal(found["a"], first["a"])
    assert len(loaded.damaged) == 1
    assert newer.name in loaded.damaged[0]
    assert "passed over" in caplog.text
    damage(older)
    with pytest.raises(CheckpointDamaged, match="no whole checkpoint is left"):
        checkpointer.load(found)


def test_a_damaged_manifest_is_passed_over(tmp_path: Path) -> None:
    checkpointer = one_rank(tmp_path)
    checkpointer.save(1, {"a": torch.ones(1)}, {})
    newest = Path(checkpointer.save(2, {"a": torch.ones(1)}, {}).path)
    newest.write_bytes(newest.read_bytes()[:-20])
    loaded = checkpointer.load({"a": torch.zeros(1)})
    assert loaded is not None
    assert (loaded.version, len(loaded.damaged)) == (1, 1)
    newest.unlink()
    loaded = checkpointer.load({"a": torch.zeros(1)})
    assert loaded is not None
    assert (loaded.version, loaded.damaged) == (1, ())


def test_the_first_saved_bytes_do_not_pass_for_a_later_version(tmp_path: Path) -> None:
    """What NeMo-RL #3312 wrote: the first save's weights under every later version."""
    checkpointer = one_rank(tmp_path)
    state = {"a": torch.zeros(4096)}
    checkpointer.save(1, state, {})
    checkpointer.save(2, state, {})
    older, newer = data_files(tmp_path)
    newer.write_bytes(older.read_bytes())
    loaded = checkpointer.load(state)
    assert loaded is not None
    assert loaded.version == 1


def test_an_older_version_can_be_asked_for(tmp_path: Path) -> None:
    checkpointer = one_rank(tmp_path)
    for version in (1, 2, 3):
        checkpointer.save(version, {"a": torch.full((1,), float(version))}, {})
    found = {"a": torch.zeros(1)}
    assert checkpointer.load(found, version=2) is not None
    assert found["a"].item() == 2
    assert checkpointer.load(found, version=9) is None


def test_what_another_execution_saved_can_be_passed_over(tmp_path: Path) -> None:
    state = {"a": torch.ones(1)}
    one_rank(tmp_path, execution="earlier").save(9, state, {})
    fresh = one_rank(tmp_path, execution="now", own_only=True)
    assert fresh.newest_version() is None
    assert fresh.load(state) is None
    fresh.save(2, state, {})
    assert fresh.newest_version() == 2
    again = one_rank(tmp_path, execution="now", generation=2, own_only=True).load(state)
    assert again is not None
    assert again.version == 2


def test_a_generation_that_is_over_can_not_save(tmp_path: Path) -> None:
    old = one_rank(tmp_path, execution="x")
    old.save(1, {"a": torch.ones(1)}, {})
    new = one_rank(tmp_path, generation=2, execution="x")
    with pytest.raises(GenerationOver):
        old.save(2, {"a": torch.ones(1)}, {})
    late = one_rank(tmp_path, execution="x")
    with pytest.raises(GenerationOver, match="generation 2"):
        late.save(2, {"a": torch.ones(1)}, {})
    assert new.newest_version() == 1


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.ones(3).to_sparse(), "sparse"),
        (torch.ones(3, device="meta"), "meta device"),
    ],
)
def test_what_can_not_be_saved_is_named(tmp_path: Path, tensor: torch.Tensor, words: str) -> None:
    with pytest.raises(CheckpointError, match=f"'odd'.*{words}"):
        one_rank(tmp_path).save(1, {"odd": tensor}, {})


def test_a_directory_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checkpointer = one_rank(tmp_path / "file" / "checkpoints")
    with pytest.raises(CheckpointError, match="file"):
        checkpointer.save(1, {"a": torch.ones(1)}, {})
    with pytest.raises(CheckpointError, match="file"):
        checkpointer.load({"a": torch.ones(1)})


def test_a_directory_that_could_not_be_opened_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk when a generation begins: what is there can be read, and saved to later."""
    state = {"a": torch.full((3,), 5.0)}
    one_rank(tmp_path, execution="x").save(1, state, {})

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "create", full)
        checkpointer = one_rank(tmp_path, generation=2, execution="x")
        with pytest.raises(CheckpointError, match="No space left"):
            checkpointer.save(2, state, {})
        found = blank(state)
        loaded = checkpointer.load(found)
        assert loaded is not None
        assert torch.equal(found["a"], state["a"])
    checkpointer.save(3, state, {})
    assert checkpointer.newest_version() == 3
    with pytest.raises(GenerationOver):
        one_rank(tmp_path, generation=1, execution="x").save(4, state, {})


def test_only_the_newest_and_the_round_ones_stay(tmp_path: Path) -> None:
    checkpointer = one_rank(tmp_path, keep=Keep(keep=2, keep_every=40))
    for version in range(10, 101, 10):
        checkpointer.save(version, {"a": torch.ones(1)}, {})
    store = LocalStore(tmp_path)
    left = [s.version for _, s in log.summaries(store) if not isinstance(s, CheckpointDamaged)]
    assert left == [100, 90, 80, 40]
    assert len(data_files(tmp_path)) == 4


def test_names_that_look_like_others_keep_apart(tmp_path: Path) -> None:
    state = {
        "__metadata__": torch.ones(2),
        "a@0": torch.zeros(3),
        "a": torch.ones(3),
        "é/ü\n": torch.ones(1),
    }
    checkpointer = one_rank(tmp_path)
    checkpointer.save(1, state, {})
    found = blank(state)
    checkpointer.load(found)
    assert all(torch.equal(found[name], state[name]) for name in state)
