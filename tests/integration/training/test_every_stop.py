"""Whatever was committed is taken up by the same program, at every version, to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import trainer
from tests.integration.training.own_zoo import LOOPS, Loop, bits

STEPS = 7
"""Two updates of those that add up over three turns, and one turn more."""


def run_to(loop: Loop, steps: int, checkpoints: Path | None) -> tuple[list[bytes], list[Any]]:
    """The weights after so many steps, and what was seen on the way."""
    found: list[bytes] = []
    seen: list[Any] = []

    def function(run: trainer.Run) -> None:
        loop(run, steps, seen)
        assert run._kept is not None
        found.extend(bits(p) for _, p in sorted(run._kept.state.parameters.items()))

    where = None if checkpoints is None else str(checkpoints)
    trainer.elastic(function, checkpoints=where, every=0)
    return found, seen


@pytest.mark.parametrize("name", LOOPS)
def test_it_goes_on_from_every_version(name: str, tmp_path: Path) -> None:
    whole, seen = run_to(LOOPS[name], STEPS, None)
    for stop in range(STEPS):
        directory = tmp_path / str(stop)
        _, before = run_to(LOOPS[name], stop, directory)
        found, after = run_to(LOOPS[name], STEPS, directory)
        assert found == whole, f"from version {stop}"
        assert before + after == seen, f"from version {stop}"
