"""State dicts as flat names and plain JSON, and back; saved and loaded outside a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import trainer.checkpoint as checkpoint
from trainer.checkpoint.statedict import (
    decode_key,
    decode_plain,
    encode_key,
    encode_plain,
    flatten,
)
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
    tensors, values = flatten(state)
    assert list(tensors) == [
        "model/layers.0.w",
        "model/a~1b",
        "optim/state/~i0/exp_avg",
        "list/~i0",
    ]
    assert sorted(values) == ["empty", "list/~i1", "optim/groups"]


@pytest.mark.parametrize("value", [object(), {1, 2}, {"a": {(1, 2): 3}}, torch.float32])
def test_what_has_no_place_is_named(value: Any) -> None:
    with pytest.raises(CheckpointError):
        flatten({"x": {"odd": value}})


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
