"""One writer at a time, also when the one before has not heard of it."""

from __future__ import annotations

from pathlib import Path

from trainer.telemetry.turn import Turn


def test_the_last_one_to_take_it_has_it(tmp_path: Path) -> None:
    first, second = (Turn(tmp_path / ".keeper", name) for name in ("a", "b"))
    assert not first.ours
    first.take()
    assert first.ours
    second.take()
    assert second.ours
    assert not first.ours
    first.take()
    assert first.ours
    assert not second.ours
