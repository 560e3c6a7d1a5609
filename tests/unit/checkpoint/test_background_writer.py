"""Saves that wait for other ranks' parts, and the end of the wait."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.checkpoint import Checkpointer, log
from trainer.checkpoint import writer as writer_module
from trainer.checkpoint.attempt import receipts_at, write_failure, write_receipt
from trainer.checkpoint.manifest import Summary
from trainer.checkpoint.store import LocalStore
from trainer.checkpoint.writer import BackgroundWriter, Outcome

PATIENCE = 60.0


class Node:
    """Node a with rank 0, which commits. Rank 1 is on node b, and its part is nothing."""

    def __init__(self, tmp_path: Path) -> None:
        self.store = LocalStore(tmp_path / "checkpoints")
        self.writer = BackgroundWriter()
        self._checkpointer = Checkpointer(
            self.store.url,
            identity={},
            rank=0,
            world_size=1,
            generation=1,
            execution="run",
            staging=tmp_path / "stage",
        )

    def stage(self, version: int, *, waits: bool = True) -> Path:
        """`waits`: for rank 1 too."""
        staged = self._checkpointer.stage(version, {"w": torch.ones(1000)}, {})
        assert staged is not None
        path = staged.wait()
        description = json.loads(path.read_bytes())
        description["commit"]["nodes"] = {"a": [0]}
        if waits:
            description["commit"]["writers"] = [0, 1]
            description["commit"]["nodes"] = {"a": [0], "b": [1]}
        path.write_text(json.dumps(description))
        return path

    def save(self, version: int, *, waits: bool = True) -> Future[Outcome]:
        """Its own part is written when this returns."""
        path = self.stage(version, waits=waits)
        attempt = json.loads(path.read_bytes())["attempt"]
        saving = self.writer.submit(path)
        self.until(lambda: saving.done() or 0 in receipts_at(self.store, attempt))
        return saving

    def attempt(self, version: int) -> str:
        (found,) = (self.store._root / "data").glob(f"v{version:08d}-*")
        return found.name

    def part_of_b(self, version: int) -> None:
        attempt = self.attempt(version)
        path = f"{log.attempt_path(attempt)}/00001.safetensors"
        self.store.write(path, [b""])
        write_receipt(self.store, attempt, 1, {"path": path, "bytes": 0, "boxes": []})

    def there(self) -> list[str]:
        return [name[:9] for name in self.store.names(log.DATA)]

    def committed(self) -> list[int]:
        return [s.version for _, s in log.summaries(self.store) if isinstance(s, Summary)]

    @staticmethod
    def until(condition: Callable[[], bool]) -> None:
        import time

        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.writer.abandon()
    node.writer.close()


def error(saving: Future[Outcome]) -> str:
    outcome = saving.result(PATIENCE)
    assert outcome.path is None
    assert outcome.error is not None
    return outcome.error


def test_the_loss_of_a_node_ends_what_waits_for_its_part(node: Node) -> None:
    saving = node.save(1)
    node.writer.members(1, ["a", "b"])
    node.writer.members(2, ["a"])
    assert error(saving) == "node b was lost with the part of rank 1"
    assert node.there() == [], "and nothing of it is left"


def test_also_where_it_was_lost_before_its_save_was_heard_of(node: Node) -> None:
    node.writer.members(2, ["a"])
    assert error(node.save(1)) == "node b was lost with the part of rank 1"


def test_a_lost_node_that_owes_nothing_any_more_ends_nothing(node: Node) -> None:
    first, second = node.save(1), node.save(2)
    node.part_of_b(2)
    node.writer.members(2, ["a"])
    assert error(first)
    assert second.result(PATIENCE).path is not None
    assert node.committed() == [2]


def test_a_node_that_goes_in_order_still_writes_its_part(node: Node) -> None:
    saving = node.save(1)
    node.writer.members(2, ["a"], going=["b"])
    node.writer.members(3, ["a"])
    assert not saving.done()
    node.part_of_b(1)
    assert saving.result(PATIENCE).path is not None


def test_a_later_version_that_is_committed_ends_an_earlier_one(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "TURN", 0.0)
    first = node.save(1)
    assert node.save(2, waits=False).result(PATIENCE).path is not None
    assert error(first) == "no part came from rank 1 before version 2 was committed"
    assert [name[:9] for name in node.there()] == ["v00000002"]


def test_who_leaves_waits_for_the_newest_save_alone(node: Node) -> None:
    first, second = node.save(1), node.save(2)
    node.writer.leave()
    assert error(first) == "no part came from rank 1"
    assert not second.done()
    node.part_of_b(2)
    assert second.result(PATIENCE).path is not None
    assert "v00000001" in node.there(), "others that leave may have the part in their memory"


def test_who_leaves_does_not_wait_for_an_earlier_save_to_have_its_turn(node: Node) -> None:
    node.save(1)
    second = node.save(2, waits=False)
    node.writer.leave()
    assert second.result(PATIENCE).path is not None


def test_a_part_of_this_node_that_can_not_be_written_ends_the_save(
    node: Node, tmp_path: Path
) -> None:
    """Its failure can't be written down either, where the disk is full."""
    path = node.stage(1)
    other = tmp_path / "stage-1" / "0.json"
    other.parent.mkdir()
    told = json.loads(path.read_bytes()) | {"rank": 1, "commit": None, "slot": "/nowhere"}
    other.write_text(json.dumps(told))
    saving, failing = node.writer.submit(path), node.writer.submit(other)
    assert "rank 1 can't write: " in error(failing)
    assert error(saving) == error(failing)
    assert node.there() == []


def test_a_part_of_another_node_that_can_not_be_written_ends_the_save(node: Node) -> None:
    saving = node.save(1)
    write_failure(node.store, node.attempt(1), 1, "rank 1 can't write: a full disk")
    assert error(saving) == "rank 1 can't write: a full disk"
    assert node.there() == []


@pytest.mark.parametrize("told_first", [False, True])
def test_a_rank_that_says_that_its_part_never_comes_ends_the_save(
    node: Node, told_first: bool
) -> None:
    """It has no place of its own to write that to: the other node may see another disk."""
    if told_first:
        node.writer.part_lost(4, 1, rank=1, reason="the disk of rank 1 is full")
    saving = node.save(4)
    if not told_first:
        node.writer.part_lost(4, 1, rank=1, reason="the disk of rank 1 is full")
    assert saving.result(PATIENCE).error == "the disk of rank 1 is full"
    again = node.save(5)
    node.part_of_b(5)
    assert again.result(PATIENCE).error is None


def test_what_comes_late_of_a_failed_save_goes_before_the_next(node: Node) -> None:
    saving = node.save(1)
    attempt = node.attempt(1)
    node.writer.members(2, ["a"])
    error(saving)
    late = f"{log.attempt_path(attempt)}/00001.safetensors"
    node.store.write(late, [b"what a node that was cut off wrote"])
    node.save(2, waits=False).result(PATIENCE)
    assert node.there() == ["v00000002"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_record_that_can_not_be_written(
    node: Node, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A whole save without a record is left to the next generation, unless it is in the way."""

    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(log.Writer, "commit_forward", refused)
    assert os.strerror(number) in error(node.save(1, waits=False))
    assert node.there() == ([] if number == errno.ENOSPC else ["v00000001"])


def test_what_nobody_has_thought_of_ends_one_save_and_is_heard(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the writing, in the looking for parts; and a description that is gone."""

    def odd(*_: Any, **__: Any) -> None:
        raise KeyError("what")

    with monkeypatch.context() as patched:
        patched.setattr(writer_module, "_write_part", odd)
        assert error(node.save(1, waits=False)) == "KeyError: 'what'"
    with monkeypatch.context() as patched:
        patched.setattr(writer_module.Pending, "look", odd)
        assert error(node.save(2, waits=False)) == "KeyError: 'what'"
    assert "Traceback" in caplog.text
    gone = node.stage(3)
    gone.unlink()
    assert "No such file" in error(node.writer.submit(gone))
    assert not gone.with_suffix(".pending").exists(), "the slot is free"
    assert node.save(4, waits=False).result(PATIENCE).path is not None


def test_closing_ends_all_that_was_submitted(node: Node) -> None:
    savings = [node.save(1), node.save(2)]
    node.writer.abandon()
    node.writer.close()
    assert wait(savings, timeout=0).not_done == set()
