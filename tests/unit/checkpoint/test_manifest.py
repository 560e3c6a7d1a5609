"""A manifest says what is wrong with it before anything is done with what it says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.checkpoint.simulated import Mesh, Whole, save
from trainer.checkpoint.geometry import Cut
from trainer.checkpoint.manifest import Manifest, decode, decode_summary, encode
from trainer.checkpoint.store import LocalStore
from trainer.errors import CheckpointDamaged


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    tensors = {
        "a": Whole("bfloat16", np.arange(24, dtype=np.uint8).reshape(4, 3, 2)),
        "b": Whole("float32", np.arange(4, dtype=np.uint8)),
    }
    mesh = Mesh((2,), {"a": [Cut(0)], "b": [None]})
    return save(LocalStore(tmp_path_factory.mktemp("m")), tensors, mesh)


@pytest.fixture(scope="module")
def document(manifest: Manifest) -> bytes:
    return encode(manifest)


def edited(document: bytes, change: Any) -> bytes:
    """The document with a change and a checksum that fits: what an attacker would write."""
    value = json.loads(document)
    change(value)
    del value["xxh3"]
    body = json.dumps(value)[:-1].encode() + b",\n"
    return body + f'"xxh3":"{xxhash.xxh3_64_hexdigest(body)}"}}\n'.encode()


def test_it_is_one_json_document_whose_first_line_is_its_summary(
    manifest: Manifest, document: bytes
) -> None:
    assert json.loads(document)["tensors"]["a"][0] == "bfloat16"
    summary = decode_summary(document.split(b"\n")[0], "m")
    assert summary is not None
    assert (summary.version, summary.tensors, summary.bytes) == (7, 2, manifest.bytes)


def test_unknown_keys_are_ignored(manifest: Manifest, document: bytes) -> None:
    assert decode(edited(document, lambda v: v.update(later={"x": 1})), "m") == manifest


@settings(deadline=None)
@given(st.data())
def test_no_flipped_bit_goes_unseen(document: bytes, data: st.DataObject) -> None:
    flipped = bytearray(document)
    flipped[data.draw(st.integers(0, len(document) - 2))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CheckpointDamaged):
        decode(bytes(flipped), "m")


@settings(deadline=None)
@given(st.data())
def test_no_missing_end_goes_unseen(document: bytes, data: st.DataObject) -> None:
    with pytest.raises(CheckpointDamaged):
        decode(document[: data.draw(st.integers(0, len(document) - 3))], "m")


def outside(path: str) -> Any:
    return lambda value: value["files"].__setitem__(0, [path, value["files"][0][1]])


def in_tensor(index: int, value: Any) -> Any:
    return lambda document: document["tensors"]["a"].__setitem__(index, value)


def in_chunk(index: int, value: Any) -> Any:
    return lambda document: document["tensors"]["a"][2][0].__setitem__(index, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (outside("../../etc/passwd"), "data file is"),
        (outside("/etc/passwd"), "data file is"),
        (outside("data/../../x"), "data file is"),
        (outside("data//x"), "data file is"),
        (outside("data/x\0y"), "data file is"),
        (outside(".hidden"), "data file is"),
        (outside("data/v00000007-g00001-0000000b/00000.safetensors"), "another attempt's"),
        (lambda v: v.update(attempt=".."), "attempt is '..'"),
        (lambda v: v.update(attempt=7), "attempt is 7"),
        (lambda v: v.update(time=1e300), "is no time"),
        (lambda v: v.update(mesh={"tp": [2]}), "is no count"),
        (lambda v: v.update(identity=[]), "is no mapping"),
        (in_tensor(0, ["float32"]), "is no text"),
        (in_tensor(1, {"4": 3}), "is no shape"),
        (in_chunk(1, [2]), "outside"),
        (in_chunk(4, "-1 -2"), "is no checksum"),
        (in_tensor(0, "object"), "unknown element type"),
        (in_tensor(1, [1 << 62, 3]), "is no count"),
        (in_tensor(1, [1 << 50, 3]), "elements of"),
        (in_tensor(1, [-4, 3]), "is no count"),
        (in_tensor(1, [4.0, 3]), "is no count"),
        (in_tensor(1, [1] * 1000), "1000 dimensions"),
        (in_tensor(1, "43"), "is no shape"),
        (in_tensor(2, []), "0 elements of 12"),
        (in_chunk(0, [2, 0]), "overlaps"),
        (in_chunk(0, [3, 0]), "outside"),
        (in_chunk(1, [2, 4]), "outside"),
        (in_chunk(2, 99), "not listed"),
        (in_chunk(3, 1 << 40), "past its file's end"),
        (in_chunk(4, ""), "0 checksums"),
        (in_chunk(4, "zz"), "invalid literal"),
        (lambda v: v.update(block=0), "block size"),
        (lambda v: v.update(version="x"), "is no count"),
        (lambda v: v.update(version=True), "is no count"),
        (lambda v: v.pop("values"), "values"),
        (lambda v: v.update(tensors=[1]), "not sound"),
        (lambda v: v.update(files={"a": 1}), "not sound"),
        (lambda v: v.update(format="other"), "says no format"),
        (lambda v: v.update(format_version=99), "upgrade remesh"),
        (lambda v: v["tensors"]["b"][2][0].__setitem__(3, 4100), "overlap"),
    ],
)
def test_what_does_not_hold_together_is_refused(document: bytes, change: Any, words: str) -> None:
    with pytest.raises(CheckpointDamaged, match=words):
        decode(edited(document, change), "m")


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{" * 100_000, b"\xff\xfe", b"{}"])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(CheckpointDamaged):
        decode(data, "m")
    with pytest.raises(CheckpointDamaged):
        decode_summary(data, "m")
