"""What an agent keeps in shared memory, and who may take it away."""

from __future__ import annotations

import os
from pathlib import Path

from trainer.agent.shelf import Shelf


def die(shelf: Shelf) -> None:
    """The kernel lets the lock go, and nothing else."""
    os.close(shelf._lock)


def test_what_the_living_keep_stays(tmp_path: Path) -> None:
    a = Shelf(tmp_path, "a")
    (a.path / "slot").write_text("state")
    b = Shelf(tmp_path, "b")
    assert (a.path / "slot").read_text() == "state"
    assert a.path.stat().st_mode & 0o777 == 0o700
    for shelf in (a, b):
        shelf.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_the_dead_left_is_taken_back_although_their_pid_lives_again(tmp_path: Path) -> None:
    """As in a container that starts again in its pod: the same name, the same pid."""
    before = Shelf(tmp_path, "a")
    (before.path / "slot").write_text("state")
    die(before)
    again = Shelf(tmp_path, "a")
    assert again.path == before.path
    assert list(again.path.iterdir()) == []
    again.remove()
