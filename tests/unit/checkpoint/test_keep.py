"""Which checkpoints stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import xxhash

from trainer.checkpoint import log
from trainer.checkpoint.keep import LEASE_SECONDS, Keep, Kept, clean, reading, removable
from trainer.checkpoint.manifest import Manifest
from trainer.checkpoint.store import LocalStore
from trainer.names import attempt_name

FOUND = [Kept(number, number * 10, f"a{number}") for number in range(9, 0, -1)]


@pytest.mark.parametrize(
    ("keep", "gone"),
    [
        (Keep(), []),
        (Keep(keep=3), [60, 50, 40, 30, 20, 10]),
        (Keep(keep=20), []),
        (Keep(keep=2, keep_every=20), [70, 50, 30, 10]),
        (Keep(keep=1, keep_every=10), []),
    ],
)
def test_removable(keep: Keep, gone: list[int]) -> None:
    assert [item.version for item in removable(FOUND, keep)] == gone


def test_what_is_being_read_stays() -> None:
    gone = removable(FOUND, Keep(keep=7), frozenset({"a1"}))
    assert [item.version for item in gone] == [20]


def named(version: int) -> str:
    """The attempt of a version."""
    return attempt_name(version, 1, "0000000a")


def names(*versions: int) -> list[str]:
    return [named(version) for version in versions]


DEAD = "v00000009-g00001-0000dead"


def committed(store: LocalStore, *versions: int) -> None:
    writer = log.Writer(store, generation=1, execution="", time=0.0)
    for version in versions:
        store.write(f"data/{named(version)}/00000.safetensors", [b"x"])
        writer.commit(
            Manifest(
                version=version,
                generation=1,
                attempt=named(version),
                identity={},
                values={},
                tensors={},
                files=(),
                block=1,
            )
        )


def test_cleaning_removes_records_data_leftovers_and_old_openings(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    committed(store, 1, 2, 3)
    committed(store, 4)
    store.write(f"data/{DEAD}/00000.safetensors", [b"x"])
    now = (tmp_path / f"data/{DEAD}").stat().st_mtime
    with reading(store, named(2), now=now):
        assert clean(store, Keep(keep=1), now=now) == names(3, 1)
    assert store.names("data") == [*names(2, 4), DEAD]
    assert clean(store, Keep(keep=1), now=now + 10) == names(2)
    assert clean(store, Keep(keep=1, leftovers=5), now=now + 10) == [DEAD]
    assert store.names("log") == [Path(log.record_path(6)).name]
    assert store.names("readers") == []


def test_a_reader_that_never_came_back_is_forgotten(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    committed(store, 1, 2)
    with reading(store, named(1), now=0.0):
        assert clean(store, Keep(keep=1), now=LEASE_SECONDS - 1) == []
        assert clean(store, Keep(keep=1), now=LEASE_SECONDS + 1) == names(1)


def test_no_leftovers_are_removed_beside_a_record_that_can_not_be_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    committed(store, 1, 2)
    (tmp_path / "log" / "00000002.json").write_text("{")
    assert clean(store, Keep(leftovers=-1e9), now=0.0) == []
    assert store.names("data") == names(1, 2)


def rewritten(record: Path, *, sealed: bool, **change: object) -> None:
    """The record with other keys in its first line; `sealed` with a checksum that fits."""
    first, *rest = record.read_bytes().split(b"\n")
    line = json.dumps(json.loads(first[:-1] + b"}") | change, separators=(",", ":")).encode()
    data = b"\n".join([line[:-1] + b",", *rest])
    if sealed:
        data = data.rpartition(b'"xxh3":"')[0]
        data += f'"xxh3":"{xxhash.xxh3_64_hexdigest(data)}"}}\n'.encode()
    record.write_bytes(data)


def files(root: Path) -> set[str]:
    """Everything below it but the log."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.parent.name != "log"
    }


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    "attempt",
    [
        "../../home/thesis",
        "..",
        ".",
        "",
        "/",
        f"{named(2)}/..",
        f"../log/../{named(1)}",
        7,
        [],
        None,
    ],
)
def test_a_name_that_no_writer_makes_removes_nothing(
    tmp_path: Path, attempt: object, sealed: bool
) -> None:
    """1. versions 1, 2 and 3 are committed, beside somebody's own files; 2. the record of 2 names
    another directory; 3. all but the newest are to go: 1 does, and nothing else."""
    store = LocalStore(tmp_path / "ck")
    for path in ("home/thesis/ch1.tex", "ck/data/notes.txt", "ck/data/mine/a.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("years of work")
    committed(store, 1, 2, 3)
    rewritten(tmp_path / "ck/log/00000003.json", sealed=sealed, attempt=attempt)
    before = files(tmp_path)
    assert clean(store, Keep(keep=1, leftovers=-1e9), now=0.0) == names(1)
    assert before - files(tmp_path) == {f"ck/data/{named(1)}/00000.safetensors"}
    assert store.names("log") == ["00000003.json", "00000004.json"]


def test_a_record_whose_checksum_fails_removes_nothing_and_is_not_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """1. the newest record and an old one are altered, the old one so that it names an attempt on
    its way; 2. of the others one may stay: version 3 stays, 1 goes, and all else is as it was."""
    store = LocalStore(tmp_path)
    committed(store, 1, 2, 3, 4)
    store.write(f"data/{DEAD}/00000.safetensors", [b"x"])
    rewritten(tmp_path / "log/00000003.json", sealed=False, attempt=DEAD)
    rewritten(tmp_path / "log/00000005.json", sealed=False, version=40)
    assert clean(store, Keep(keep=1, leftovers=-1e9), now=0.0) == names(1)
    assert store.names("data") == [*names(2, 3, 4), DEAD]
    assert store.names("log") == [f"0000000{n}.json" for n in (3, 4, 5)]
    assert "log/00000003.json" in caplog.text
    assert "log/00000005.json" in caplog.text


def test_beside_an_altered_record_nothing_is_a_leftover(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    committed(store, 1, 2)
    rewritten(tmp_path / "log/00000002.json", sealed=False, attempt=DEAD)
    assert clean(store, Keep(leftovers=-1e9), now=0.0) == []
    assert store.names("data") == names(1, 2)


def test_an_altered_record_does_not_pass_for_one_that_opens_the_log(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    committed(store, 1, 2)
    rewritten(tmp_path / "log/00000002.json", sealed=False, kind="open")
    assert clean(store, Keep(leftovers=-1e9), now=0.0) == []
    assert store.names("log") == ["00000002.json", "00000003.json"]
