"""What goes before a save that a disk has no room for, and what never does."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
import torch

from trainer.checkpoint import Checkpointer, log
from trainer.checkpoint.attempt import write_header
from trainer.checkpoint.keep import Keep, Kept
from trainer.checkpoint.manifest import Summary
from trainer.checkpoint.receipt import blank
from trainer.checkpoint.room import QUIET_SECONDS, Coming, expendable, make_room, with_room
from trainer.checkpoint.store import LocalStore
from trainer.errors import CheckpointError

FOUND = [Kept(number, version, f"v{version}") for number, version in ((9, 30), (7, 20), (5, 10))]
SIZE = 4000


def versions(items: list[Kept]) -> list[int]:
    return [item.version for item in items]


def test_what_keep_would_drop_afterwards_may_go_before() -> None:
    assert versions(expendable(FOUND, Keep(keep=3), 40)) == [10]
    assert versions(expendable(FOUND, Keep(keep=2), 40)) == [10, 20], "the oldest first"
    assert expendable(FOUND, Keep(keep=4), 40) == []
    assert expendable(FOUND, Keep(), 40) == [], "all are kept"
    assert versions(expendable(FOUND, Keep(keep=2, keep_every=20), 40)) == [10]
    assert versions(expendable(FOUND, Keep(keep=2), 40, frozenset({"v10"}))) == [20]


def test_the_last_whole_one_stays() -> None:
    assert versions(expendable(FOUND, Keep(keep=1), 40)) == [10, 20]
    assert expendable(FOUND[:1], Keep(keep=1), 40) == []
    assert expendable([], Keep(keep=1), 40) == []
    altered = versions(expendable(FOUND, Keep(keep=1), 40, whole=lambda number: number != 9))
    assert altered == [10], "the newest record is altered: the one before it is the last"


def test_an_older_version_makes_no_room() -> None:
    assert expendable(FOUND, Keep(keep=1), 30) == []
    assert expendable(FOUND, Keep(keep=1), 5) == []


class Disk(LocalStore):
    """A disk of so many bytes, of which a quota may allow fewer than it seems to have free."""

    def __init__(self, directory: Path, size: int, *, tells: bool = True) -> None:
        super().__init__(directory)
        self.size_, self._tells = size, tells

    def used(self) -> int:
        files = [path for path in self._root.rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in files)

    def free(self) -> int:
        return self.size_ - self.used() if self._tells else 1 << 50


def coming(version: int, keep: int, *, size: int = SIZE, generation: int = 1) -> Coming:
    return Coming(
        version=version,
        generation=generation,
        execution="run",
        attempt=f"v{version:08d}-g{generation:05d}-00000000",
        bytes=size,
        keep=Keep(keep=keep),
    )


def saved(directory: Path, *found: int, keep: int = 0) -> Checkpointer:
    checkpointer = Checkpointer(
        directory,
        identity={},
        rank=0,
        world_size=1,
        generation=1,
        execution="run",
        keep=Keep(keep=keep),
    )
    for version in found:
        checkpointer.save(version, {"w": torch.full((SIZE // 4,), float(version))}, {})
    return checkpointer


def there(directory: Path) -> list[int]:
    found = log.summaries(LocalStore(directory))
    return sorted(summary.version for _, summary in found if isinstance(summary, Summary))


def test_with_room_nothing_goes(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3)
    assert not make_room(Disk(tmp_path, 1 << 30), coming(4, keep=1), now=time.time())
    assert there(tmp_path) == [1, 2, 3]


def test_only_as_much_goes_as_is_needed(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3)
    disk = Disk(tmp_path, 0)
    disk.size_ = disk.used() + (1 << 20) + 200
    assert make_room(disk, coming(4, keep=1), now=time.time())
    assert there(tmp_path) == [2, 3]
    assert len(list((tmp_path / "data").iterdir())) == 2
    disk.size_ = 0
    make_room(disk, coming(4, keep=1), now=time.time())
    assert there(tmp_path) == [3], "and the last one stays, whatever is missing"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_refused_write_is_tried_again_once_something_is_gone(tmp_path: Path, number: int) -> None:
    """A quota shows itself by its refusal alone."""
    saved(tmp_path, 1, 2, 3)
    tries: list[list[int]] = []

    def write() -> str:
        tries.append(there(tmp_path))
        if len(tries[-1]) > 1:
            raise OSError(number, os.strerror(number))
        return "written"

    disk = Disk(tmp_path, 0, tells=False)
    assert with_room(disk, coming(4, keep=1), write, now=time.time()) == "written"
    assert tries == [[1, 2, 3], [2, 3], [3]]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_what_nothing_can_be_done_about_is_raised(tmp_path: Path, number: int) -> None:
    saved(tmp_path, 1, 2, 3)
    tries = []

    def write() -> None:
        tries.append(1)
        raise OSError(number, os.strerror(number))

    with pytest.raises(OSError, match=os.strerror(number)):
        with_room(Disk(tmp_path, 0, tells=False), coming(4, keep=3), write, now=time.time())
    assert len(tries) == (2 if number == errno.ENOSPC else 1)
    assert there(tmp_path) == ([2, 3] if number == errno.ENOSPC else [1, 2, 3])


def attempt(store: LocalStore, version: int, generation: int, execution: str = "run") -> str:
    name = f"v{version:08d}-g{generation:05d}-0000000a"
    fields = {"version": version, "generation": generation, "execution": execution}
    kinds = {"w": ("float32", (1,))}
    header = blank(kinds, attempt=name, identity={}, values={}, block=64, **fields)
    write_header(store, header, [0])
    return name


def test_what_can_never_be_committed_goes_first(tmp_path: Path) -> None:
    """1. the disk is full of an attempt that a later version has overtaken, of one that an earlier
    generation left behind long ago, of one that it may still be writing, and of one of ours; 2.
    the first two go, and no checkpoint does."""
    saved(tmp_path, 4)
    disk = Disk(tmp_path, 0)
    overtaken = attempt(disk, 3, 2)
    left_behind, at_work, ours = attempt(disk, 6, 1), attempt(disk, 7, 1), attempt(disk, 8, 2)
    for name, ago in ((left_behind, QUIET_SECONDS + 60), (ours, QUIET_SECONDS + 60)):
        directory = tmp_path / "data" / name
        for path in (directory, *directory.iterdir()):
            os.utime(path, (time.time() - ago,) * 2)
    make_room(disk, coming(9, keep=1, generation=2), now=time.time())
    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert names & {overtaken, left_behind} == set()
    assert {at_work, ours} <= names
    assert there(tmp_path) == [4]


def test_beside_an_altered_record_no_attempt_passes_for_dead(tmp_path: Path) -> None:
    saved(tmp_path, 4)
    (record,) = (tmp_path / "log").glob("*2.json")
    record.write_text(record.read_text().replace('"w"', '"v"'))
    disk = Disk(tmp_path, 0)
    name = attempt(disk, 3, 1)
    make_room(disk, coming(9, keep=1), now=time.time())
    assert (tmp_path / "data" / name).is_dir()


def test_a_write_that_fails_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        store.write("data/a/x", [b"some"])
    with pytest.raises(OSError, match="No space"):
        store.create("data/a/y", b"some")
    assert list((tmp_path / "data" / "a").iterdir()) == []


def test_a_commit_that_fails_after_its_record_appeared_costs_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory of the log can't be synced."""
    checkpointer = saved(tmp_path, 1)

    def rename_unsynced(store: LocalStore, source: Path, target: Path) -> bool:
        source.rename(target)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(LocalStore, "_rename_new", rename_unsynced)
    with pytest.raises(CheckpointError, match="Input/output"):
        checkpointer.save(2, {"w": torch.ones(SIZE // 4)}, {})
    assert there(tmp_path) == [1, 2]
    assert len(list((tmp_path / "data").iterdir())) == 2


def test_a_direct_save_that_fails_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where all data are written, and the record is what has no room any more."""
    checkpointer = saved(tmp_path, 1)
    before = sorted((tmp_path / "data").iterdir())

    def full(store: LocalStore, path: str, data: bytes) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalStore, "create", full)
    with pytest.raises(CheckpointError, match="No space"):
        checkpointer.save(2, {"w": torch.ones(SIZE // 4)}, {})
    assert sorted((tmp_path / "data").iterdir()) == before
