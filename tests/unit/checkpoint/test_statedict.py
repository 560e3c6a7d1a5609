"""State dicts as flat names and plain JSON, and back; saved and loaded outside a job."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import trainer.checkpoint as checkpoint
from trainer.checkpoint import PerRank
from trainer.checkpoint.paths import decode_key, encode_key, is_of_rank
from trainer.checkpoint.tree import flatten
from trainer.checkpoint.values import decode_plain, encode_plain
from trainer.errors import CheckpointError, CheckpointMismatch

keys = st.text() | st.integers()
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.lists(keys, max_size=4), st.lists(keys, max_size=4))
def test_no_two_paths_share_a_name(a: list[Any], b: list[Any]) -> None:
    names = ["/".join(map(encode_key, path)) for path in (a, b)]
    assert (names[0] == names[1] and len(a) == len(b)) == (a == b)


@settings(deadline=None)
@given(keys)
def test_keys_come_back(key: str | int) -> None:
    assert decode_key(encode_key(key)) == key


@settings(deadline=None)
@given(plain)
def test_plain_values_come_back(value: Any) -> None:
    import json

    found = decode_plain(json.loads(json.dumps(encode_plain("x", value))))
    assert found == value
    assert type(found) is type(value)


def test_names_are_paths() -> None:
    state = {
        "model": {"layers.0.w": torch.ones(1), "a/b": torch.ones(1)},
        "optim": {"state": {0: {"exp_avg": torch.ones(1)}}, "groups": [{"lr": 0.1}]},
        "list": [torch.ones(1), 2],
        "empty": {},
    }
    flat = flatten(state)
    assert list(flat.tensors) == [
        "model/layers.0.w",
        "model/a~1b",
        "optim/state/~i0/exp_avg",
        "list/~i0",
    ]
    assert sorted(flat.values) == ["empty", "list/~i1", "optim/groups"]


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        torch.float32,
        1j,
        Point(1, 2),
        np.array(["a", "b"]),
        np.array([None, 1], dtype=object),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
    ],
)
def test_what_has_no_place_is_named(value: Any) -> None:
    with pytest.raises(CheckpointError, match="'x/odd' is a"):
        flatten({"x": {"odd": value}})


@pytest.mark.parametrize("key", [True, None, (1, 2), 1.5])
def test_a_key_that_has_no_place_is_named(key: Any) -> None:
    with pytest.raises(CheckpointError, match="a key of the state is "):
        flatten({"x": {key: 1}})


@pytest.mark.parametrize(
    "value",
    [
        np.float32(0.5),
        np.float64(0.5),
        np.int64(-3),
        np.uint8(200),
        np.bool_(True),
        Counter({30: 1, 80: 2}),
        OrderedDict(b=1, a=2),
        deque([1, 2], maxlen=3),
        random.Random(7).getstate(),
    ],
)
def test_a_value_comes_back_as_what_it_was(value: Any, tmp_path: Path) -> None:
    state: dict[str, Any] = {"x": {"value": value}}
    checkpoint.save(tmp_path, state)
    state = {"x": {"value": None}}
    checkpoint.load(tmp_path, state)
    found = state["x"]["value"]
    assert found == value
    # What is reached key by key takes the class of the dict that is there.
    assert type(found) is (dict if isinstance(value, OrderedDict) else type(value))
    assert getattr(found, "maxlen", None) == getattr(value, "maxlen", None)


def test_save_and_load(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    array = np.arange(6.0).reshape(2, 3)
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 4,
        "array": array,
    }
    checkpoint.save(tmp_path, state, version=12)
    other = torch.nn.Linear(3, 2)
    fresh = {
        "model": other.state_dict(),
        "optimizer": {
            "state": {
                index: {name: torch.zeros_like(tensor) for name, tensor in of_one.items()}
                for index, of_one in optimizer.state_dict()["state"].items()
            },
            "param_groups": None,
        },
        "epoch": 0,
        "array": np.zeros((2, 3)),
    }
    loaded = checkpoint.load(tmp_path, fresh)
    assert loaded is not None
    assert (loaded.version, fresh["epoch"]) == (12, 4)
    assert torch.equal(other.weight, model.weight)
    assert np.array_equal(fresh["array"], array)
    again = torch.optim.AdamW(other.parameters())
    again.load_state_dict(fresh["optimizer"])
    assert again.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def test_loading_asks_for_nothing_that_is_not_there(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "none", {"a": torch.ones(1)}) is None
    assert not (tmp_path / "none").exists()
    checkpoint.save(tmp_path, {"a": torch.ones(1), "n": 1})
    with pytest.raises(CheckpointMismatch, match="no value 'm'"):
        checkpoint.load(tmp_path, {"a": torch.ones(1), "m": 1})


def views() -> dict[str, torch.Tensor]:
    """Tensors whose memory is not simply their elements in a row."""
    complexes = torch.tensor([1 + 2j, 3 - 4j])
    return {
        "one element of a stride": torch.rand(4)[::2][:1],
        "one element of a wide row": torch.rand(1, 8)[:, ::3][:, :1],
        "one bfloat16": torch.rand(4).bfloat16()[::2][:1],
        "column": torch.rand(4, 3)[:, 1:2],
        "transposed": torch.rand(3, 4).t(),
        "channels last": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "expanded": torch.rand(1).expand(5),
        "conjugate": complexes.conj(),
        "negative": complexes.conj().imag,
        "scalar": torch.tensor(3.0),
        "empty": torch.empty(3, 0, 2),
    }


def test_a_view_is_saved_as_its_elements(tmp_path: Path) -> None:
    given = views()
    checkpoint.save(tmp_path, given)
    filled = {name: torch.zeros(view.shape, dtype=view.dtype) for name, view in given.items()}
    checkpoint.load(tmp_path, filled)
    for name, view in given.items():
        assert torch.equal(filled[name], view.clone()), name


def test_a_view_is_filled_where_it_lies(tmp_path: Path) -> None:
    given = views()
    plain = {name: view.clone().contiguous() for name, view in given.items()}
    checkpoint.save(tmp_path, plain)
    del given["expanded"], plain["expanded"]
    with torch.no_grad():
        for view in given.values():
            view.zero_()
    checkpoint.load(tmp_path, given, strict=False)
    for name, view in given.items():
        assert torch.equal(view, plain[name]), name


def test_arrays_of_any_order_are_saved_and_filled(tmp_path: Path) -> None:
    given = {
        "other byte order": np.arange(3, dtype=">i4"),
        "backwards": np.arange(6)[::-1],
        "a column": np.arange(6.0).reshape(2, 3)[:, 1],
        "no dimension": np.array(5.0),
    }
    wanted = {name: array.copy() for name, array in given.items()}
    checkpoint.save(tmp_path, given)
    for array in given.values():
        array[...] = 0
    checkpoint.load(tmp_path, given)
    for name, array in given.items():
        assert np.array_equal(array, wanted[name]), name


def test_what_can_not_be_written_to_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    array = np.arange(3)
    checkpoint.save(tmp_path, {"a": array, "w": torch.ones(5)})
    array.setflags(write=False)
    checkpoint.save(tmp_path, {"a": array, "w": torch.ones(5)}, version=1)
    with pytest.raises(CheckpointError, match="'a' is a read-only array"):
        checkpoint.load(tmp_path, {"a": array, "w": torch.ones(5)})
    with pytest.raises(CheckpointError, match="'w' has several elements in one place"):
        checkpoint.load(tmp_path, {"a": array.copy(), "w": torch.zeros(1).expand(5)})


def test_an_empty_key_is_a_key_like_any_other(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"": {"lr": 0.5, "w": torch.ones(2)}, "lr": 2.0, "w": torch.zeros(2)})
    state = {"": {"lr": 0.0, "w": torch.zeros(2)}, "lr": 0.0, "w": torch.ones(2)}
    checkpoint.load(tmp_path, state)
    assert (state[""]["lr"], state["lr"]) == (0.5, 2.0)
    assert (state[""]["w"].tolist(), state["w"].tolist()) == ([1, 1], [0, 0])


@pytest.mark.parametrize(
    ("saved", "here"),
    [
        ({"position": 5}, {}),
        ({"position": 5, "epoch": 2}, {"position": 0}),
        ({"snapshot": {"i": 1}}, {"snapshot": None}),
        ({"snapshot": None}, {"snapshot": {"i": 1}}),
        ({"seen": [1, 2, 3]}, {"seen": []}),
    ],
)
def test_a_dict_of_plain_values_gets_back_all_that_it_had(
    saved: dict[str, Any], here: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint.save(tmp_path, {"loader": saved, "w": torch.ones(1)})
    state = {"loader": here, "w": torch.zeros(1)}
    checkpoint.load(tmp_path, state)
    assert state["loader"] == saved
    assert state["loader"] is here


def test_a_value_that_was_not_saved_is_named(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"loader": {"position": 5}})
    with pytest.raises(CheckpointMismatch, match="no value 'loader/epoch'"):
        checkpoint.load(tmp_path, {"loader": {"position": 0, "epoch": 0}})


def test_tuples_of_tensors(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"ema": (torch.ones(2), 7, Point(torch.ones(1), 3))})
    state = {"ema": (torch.zeros(2), 0, Point(torch.zeros(1), 0))}
    checkpoint.load(tmp_path, state)
    assert state["ema"][1] == 7
    assert state["ema"][2] == Point(torch.ones(1), 3)
    assert state["ema"][0].tolist() == [1, 1]


def test_a_part_is_loaded_where_it_is_asked_for(tmp_path: Path) -> None:
    model = {"body": torch.ones(2), "head": torch.ones(3)}
    checkpoint.save(tmp_path, {"model": model, "optimizer": {"m": torch.ones(2)}, "epoch": 4})
    state = {"model": {"body": torch.zeros(2), "new head": torch.zeros(5)}, "run": "b"}
    with pytest.raises(CheckpointMismatch):
        checkpoint.load(tmp_path, state)
    loaded = checkpoint.load(tmp_path, state, strict=False)
    assert loaded is not None
    assert state["model"]["body"].tolist() == [1, 1]
    assert state["run"] == "b"
    assert loaded.missing == ("model/new head", "run")
    assert loaded.unused == ("model/head", "optimizer/m")
    with pytest.raises(CheckpointMismatch, match=r"is \[3\] there and \[4\] here"):
        checkpoint.load(tmp_path, {"model": {"head": torch.zeros(4)}}, strict=False)


@pytest.mark.parametrize("version", [-1, True, 3.0, "5", None])
def test_a_version_is_a_whole_number(version: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a version is a whole number from 0 on"):
        checkpoint.save(tmp_path, {"w": torch.ones(1)}, version=version)
    assert not list(tmp_path.glob("**/*.json"))


def test_numpys_integers_are_versions(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"w": torch.ones(1)}, version=np.int64(3))  # type: ignore[arg-type]
    loaded = checkpoint.load(tmp_path, {"w": torch.ones(1)})
    assert loaded is not None
    assert type(loaded.version) is int


def test_a_ranks_own_is_known_by_its_name() -> None:
    flat = flatten({"rng": PerRank(seed=torch.ones(1), place=3)}, rank=2)
    assert [*flat.tensors, *flat.values] == ["rng/~r2/seed", "rng/~r2/place"]
    assert all(map(is_of_rank, [*flat.tensors, *flat.values]))
    assert not any(map(is_of_rank, flatten({"~r2": {"a": 1}, "x/~r2": 1}).values))
