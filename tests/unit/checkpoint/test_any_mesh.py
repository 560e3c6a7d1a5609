"""Any mesh reads what any other has written, to the bit."""

from __future__ import annotations

import math
import secrets
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.checkpoint.simulated import Mesh, Whole, bytes_of, load, save
from trainer.checkpoint.datafile import BoxEntry
from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.geometry import Box, Cut
from trainer.checkpoint.manifest import decode, encode
from trainer.checkpoint.plan import Held, assign, entries_of, grouped
from trainer.checkpoint.store import LocalStore
from trainer.errors import CheckpointError

shapes = st.lists(st.integers(0, 9), max_size=4).map(tuple)


@st.composite
def wholes(draw: st.DrawFn) -> dict[str, Whole]:
    count = draw(st.integers(1, 4))
    tensors = {}
    for index in range(count):
        dtype = draw(st.sampled_from(sorted(ELEMENT_TYPES)))
        shape = (*draw(shapes), ELEMENT_TYPES[dtype].size)
        random = np.random.default_rng(draw(st.integers(0, 2**32)))
        data = random.integers(0, 256, math.prod(shape), dtype=np.uint8).reshape(shape)
        tensors[f"t{index}"] = Whole(dtype, data)
    return tensors


@st.composite
def meshes(draw: st.DrawFn, tensors: dict[str, Whole]) -> Mesh:
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    cuts = {}
    for name, tensor in tensors.items():
        if tensor.shape:
            dims = st.integers(0, len(tensor.shape) - 1)
            cut = st.none() | st.builds(Cut, dims, st.integers(1, 3))
        else:
            cut = st.none()
        cuts[name] = draw(st.lists(cut, min_size=len(shape), max_size=len(shape)))
    return Mesh(shape, cuts)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_mesh_reads_what_any_other_wrote(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    tensors = data.draw(wholes())
    writing, reading = data.draw(meshes(tensors)), data.draw(meshes(tensors))
    store = LocalStore(tmp_path_factory.getbasetemp() / secrets.token_hex(8))
    block = data.draw(st.sampled_from([1, 3, 16, 64, 1 << 20]))
    manifest = save(store, tensors, writing, block=block)
    assert decode(encode(manifest), "manifest") == manifest
    for held in load(store, manifest, tensors, reading):
        for (name, box), found in held.items():
            assert found.tobytes() == bytes_of(tensors[name], box).tobytes()
    store.remove_tree(".")


def planned(held: list[dict[str, Held]]) -> list[list[BoxEntry]]:
    return [entries_of(groups) for groups in assign([grouped(of_rank) for of_rank in held])]


def test_replicas_are_written_once_and_spread_by_bytes() -> None:
    box = Box((0,), (10,))
    layout = {f"t{i}": ("float32", (10,), (box,)) for i in range(40)}
    plan = planned([layout] * 4)
    names = sorted(entry.name for entries in plan for entry in entries)
    assert names == sorted(layout)
    assert [len(entries) for entries in plan] == [10] * 4


def test_a_large_replica_is_cut_among_its_holders() -> None:
    rows = 1 << 12
    layout = {"big": ("float32", (rows, 1 << 13), (Box((0, 0), (rows, 1 << 13)),))}
    plan = planned([layout] * 4)
    assert [sum(entry.bytes for entry in entries) for entries in plan] == [rows << 13] * 4


def test_what_one_rank_alone_holds_lightens_its_share_of_the_rest() -> None:
    own = {"own": ("uint8", (100,), (Box((0,), (100,)),))}
    shared = {f"s{i}": ("uint8", (10,), (Box((0,), (10,)),)) for i in range(10)}
    plan = planned([own | shared, shared])
    assert [sum(entry.bytes for entry in entries) for entries in plan] == [100, 100]


def test_ranks_that_disagree_are_named() -> None:
    one = {"w": ("float32", (4,), (Box((0,), (2,)),))}
    two = {"w": ("float32", (5,), (Box((2,), (2,)),))}
    with pytest.raises(CheckpointError, match=r"'w': rank 0 has float32 \[4\], rank 1 has"):
        planned([one, two])


def test_a_tensor_that_no_one_holds_whole_is_not_saved(tmp_path: Path) -> None:
    class Gap(Mesh):
        def layouts(self, tensors):
            return super().layouts(tensors)[:-1]

    tensors = {"w": Whole("float32", np.zeros((8, 4), dtype=np.uint8))}
    with pytest.raises(CheckpointError, match=r"do not hold all of 'w': its boxes hold 4 .* of 8"):
        save(LocalStore(tmp_path), tensors, Gap((2,), {"w": [Cut(0)]}))


def test_groups_that_differ_between_ranks_are_written_once_all_the_same() -> None:
    """The same box of `b` is alike `a` on one rank, alike `c` on the other."""
    box, half = (Box((0,), (4,)),), (Box((0,), (2,)),)
    one = {"a": ("uint8", (4,), box), "b": ("uint8", (4,), box), "c": ("uint8", (4,), half)}
    two = {"c": ("uint8", (4,), box), "b": ("uint8", (4,), box)}
    plan = planned([one, two])
    assert sorted(entry.name for entries in plan for entry in entries if entry.box == box[0]) == [
        "a",
        "b",
        "c",
    ]
