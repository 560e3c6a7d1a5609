"""Which save counts as lost when a run ends, and what is said of it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from trainer.checkpoint.staging import Slots, enlarging
from trainer.checkpoint.unsaved import SaveLedger, Unsaved, account, mending
from trainer.errors import CheckpointError


def lost(version: int, generation: int = 1, error: str = "the disk is full") -> Unsaved:
    return Unsaved(version=version, generation=generation, error=error, url="/nowhere/at/all")


def test_a_save_that_failed_on_the_way_is_mended_by_a_later_one() -> None:
    ledger = SaveLedger()
    assert ledger.unsaved is None
    ledger.saved(2, 1)
    ledger.failed(lost(4))
    assert ledger.unsaved == lost(4)
    ledger.saved(6, 1)
    assert ledger.unsaved is None
    ledger.failed(lost(4, error="late news"))
    assert ledger.unsaved is None, "an older one that fails later is no loss"


def test_the_same_version_counts_where_it_was_saved_in_a_later_generation() -> None:
    ledger = SaveLedger()
    ledger.failed(lost(6, 1))
    ledger.saved(6, 2)
    assert ledger.unsaved is None


def test_a_part_that_is_written_does_not_make_up_for_one_that_is_not() -> None:
    """Two ranks of one node: one writes its part of version 6, the other can't."""
    ledger = SaveLedger()
    ledger.failed(lost(6))
    ledger.saved(6, 1)
    ledger.failed(lost(6, error="no part came from rank 1"))
    assert ledger.unsaved == lost(6), "and the first reason that was heard is the reason"


def test_what_is_lost_is_said_with_what_there_is(tmp_path: Path) -> None:
    unsaved = Unsaved(version=6, generation=1, error="no room; make some", url=str(tmp_path))
    told = "version 6 is not saved: no room; make some"
    assert account(unsaved) == f"{told}; there is no checkpoint"
    (tmp_path / "log").write_text("no directory")
    assert account(unsaved) == told, "nobody can say"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EROFS, "make it writable"),
        (errno.EACCES, "make it writable"),
    ],
)
def test_what_the_file_system_refuses_is_said_with_what_mends_it(number: int, words: str) -> None:
    assert words in mending(OSError(number, "no"))
    assert mending(OSError(errno.EIO, "broken")) == ""


@pytest.mark.parametrize("refused", ["mkdir", "fallocate"])
def test_shared_memory_without_room_is_an_error_of_the_save_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """Also where the directory can't be made: an OSError of one rank would leave the others
    waiting for it."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if refused == "mkdir":
        monkeypatch.setattr(Path, "mkdir", full)
    else:
        monkeypatch.setattr("os.posix_fallocate", full)
    slot = Slots(tmp_path / "own-0").free()
    assert slot is not None
    with pytest.raises(CheckpointError, match=r"no room to stage 100 bytes.*--shm-size"):
        slot.memory(100)
    assert enlarging(OSError(errno.EACCES, "no")) == ""


def test_a_slot_that_can_not_be_described_is_free_for_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = Slots(tmp_path / "own-0")
    slot = slots.free()
    assert slot is not None
    slot.memory(100)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(CheckpointError, match="no room to describe"):
        slot.publish({"version": 1}, pending=True)
    assert slots.idle()
