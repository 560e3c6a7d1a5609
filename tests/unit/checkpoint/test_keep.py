"""Which checkpoints stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.checkpoint import log
from trainer.checkpoint.keep import LEASE_SECONDS, Keep, Kept, clean, reading, removable
from trainer.checkpoint.manifest import Manifest
from trainer.checkpoint.store import LocalStore

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


def committed(store: LocalStore, *versions: int) -> None:
    writer = log.Writer(store, generation=1, execution="", time=0.0)
    for version in versions:
        store.write(f"data/v{version}/00000.safetensors", [b"x"])
        writer.commit(
            Manifest(
                version=version,
                generation=1,
                attempt=f"v{version}",
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
    store.write("data/dead/00000.safetensors", [b"x"])
    now = (tmp_path / "data/dead").stat().st_mtime
    with reading(store, "v2", now=now):
        assert clean(store, Keep(keep=1), now=now) == ["v3", "v1"]
    assert store.names("data") == ["dead", "v2", "v4"]
    assert clean(store, Keep(keep=1), now=now + 10) == ["v2"]
    assert clean(store, Keep(keep=1, leftovers=5), now=now + 10) == ["dead"]
    assert store.names("log") == [Path(log.record_path(6)).name]
    assert store.names("readers") == []


def test_a_reader_that_never_came_back_is_forgotten(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    committed(store, 1, 2)
    with reading(store, "v1", now=0.0):
        assert clean(store, Keep(keep=1), now=LEASE_SECONDS - 1) == []
        assert clean(store, Keep(keep=1), now=LEASE_SECONDS + 1) == ["v1"]


def test_no_leftovers_are_removed_beside_a_record_that_can_not_be_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    committed(store, 1, 2)
    (tmp_path / "log" / "00000002.json").write_text("{")
    assert clean(store, Keep(leftovers=-1e9), now=0.0) == []
    assert store.names("data") == ["v1", "v2"]
