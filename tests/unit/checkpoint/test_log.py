"""The log of a checkpoint directory: order, and the right to commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.checkpoint import log
from trainer.checkpoint.manifest import Manifest
from trainer.checkpoint.store import LocalStore
from trainer.errors import CheckpointDamaged, CheckpointError, GenerationOver
from trainer.names import attempt_name


def manifest(version: int, **values: object) -> Manifest:
    return Manifest(
        version=version,
        generation=1,
        attempt=attempt_name(version, 1, "0" * 8),
        identity={},
        execution="run",
        values=values,
        tensors={},
        files=(),
        block=1 << 20,
    )


def opened(store: LocalStore, generation: int, execution: str = "run") -> log.Writer:
    return log.Writer(store, generation=generation, execution=execution, time=0.0)


def versions(store: LocalStore) -> list[int]:
    return [s.version for _, s in log.summaries(store) if not isinstance(s, CheckpointDamaged)]


def test_commits_come_newest_first_whatever_their_versions(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    writer = opened(store, 1)
    for version in (10, 30, 20):
        writer.commit(manifest(version))
    assert versions(store) == [20, 30, 10]
    assert log.read_manifest(store, log.record_numbers(store)[-1]).version == 20


def test_a_generation_that_is_over_can_not_commit(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    old = opened(store, 1)
    old.commit(manifest(10))
    new = opened(store, 2)
    with pytest.raises(GenerationOver, match="later generation"):
        old.commit(manifest(20))
    new.commit(manifest(15))
    with pytest.raises(GenerationOver):
        old.commit(manifest(20))
    assert versions(store) == [15, 10]


def test_a_lower_generation_of_the_same_execution_can_not_open(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    opened(store, 5).commit(manifest(1))
    with pytest.raises(GenerationOver, match="generation 5"):
        opened(store, 4)
    opened(store, 1, execution="another run").commit(manifest(2))
    assert versions(store) == [2, 1]


def test_the_right_goes_to_another_process_by_the_number_of_its_record(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    worker = opened(store, 1)
    agent = log.Writer.attached(store, generation=1, opened=worker.opened)
    agent.commit(manifest(1))
    worker.commit(manifest(2))
    agent.commit(manifest(3))
    opened(store, 2)
    with pytest.raises(GenerationOver):
        agent.commit(manifest(4))
    assert versions(store) == [3, 2, 1]


def test_removed_records_leave_no_place_to_commit_to(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    old = opened(store, 1)
    first = old.commit(manifest(1))
    new = opened(store, 2)
    new.commit(manifest(2))
    store.remove(first)
    store.remove(log.record_path(new.opened))
    with pytest.raises(GenerationOver):
        log.Writer.attached(store, generation=1, opened=old.opened).commit(manifest(9))
    assert versions(store) == [2]


def test_what_is_no_record_is_passed_over_or_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    writer = opened(store, 1)
    writer.commit(manifest(1))
    (tmp_path / "log" / ".00000009.json.tmp").write_text("half")
    (tmp_path / "log" / "notes.txt").write_text("mine")
    (tmp_path / "log" / "00000003.json").write_text("{half")
    found = list(log.summaries(store))
    assert [number for number, _ in found] == [3, 2]
    assert isinstance(found[0][1], CheckpointDamaged)
    assert "log/00000003.json" in str(found[0][1])


def test_a_value_that_json_can_not_hold_is_refused(tmp_path: Path) -> None:
    writer = opened(LocalStore(tmp_path), 1)
    with pytest.raises(CheckpointError, match="JSON"):
        writer.commit(manifest(1, data=object()))


def test_the_first_line_is_read_however_long_it_is(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    writer = opened(store, 1)
    writer.commit(manifest(7, cursor="x" * 300_000))
    assert versions(store) == [7]


def test_an_attempt_is_committed_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    writer = opened(store, 1)
    first = writer.commit(manifest(1))
    writer.commit(manifest(2))
    assert writer.commit(manifest(1)) == first
    assert versions(store) == [2, 1]


def test_a_save_that_was_overtaken_is_not_the_newest(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    writer = opened(store, 1)
    writer.commit(manifest(2))
    late = log.Writer.attached(store, generation=1, opened=writer.opened)
    assert late.commit_forward(manifest(6)) is not None
    assert late.commit_forward(manifest(4)) is None
    assert versions(store) == [6, 2]
    again = opened(store, 2)
    assert again.commit_forward(manifest(3)) is not None, "after going back to an older one"
    assert versions(store) == [3, 6, 2]


@pytest.mark.parametrize(
    "record",
    [
        b"[" * 100_000,
        b"[]",
        b'{"format":"remesh.checkpoint","format_version":1,"kind":"open","generation":"9"}',
        b'{"format":"remesh.checkpoint","format_version":1,"kind":"open","generation":1e400}',
        b'{"format":"remesh.checkpoint","format_version":1,"kind":"open","generation":1'
        + b"0" * 4000
        + b"}",
    ],
)
def test_a_record_that_can_not_be_read_holds_no_right(tmp_path: Path, record: bytes) -> None:
    store = LocalStore(tmp_path)
    old = opened(store, 1)
    (tmp_path / "log" / "00000002.json").write_bytes(record)
    with pytest.raises(GenerationOver):
        old.commit(manifest(1))
    opened(store, 2).commit(manifest(2))
    assert versions(store) == [2]
