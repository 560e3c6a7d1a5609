"""Files of 100 MB where a few kilobytes are expected: answered or refused in a line, and at once.

Zeros are a file that a machine has left which lost its power; brackets cost who reads them most.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.command.run_directories import leave_run
from trainer.command import main

GOLDEN = Path(__file__).parents[1] / "checkpoint" / "golden" / "format-1"
SIZE = 100 << 20
MOMENT = 30.0
"""Each takes well under a second on an idle machine; reading what should be left, minutes."""
CASES = {
    "runs/a/status.json": ["status", "a"],
    "runs/a/agents/a.json": ["status", "a"],
    "runs/a/summary.json": ["status", "a"],
    "runs/a/metrics.jsonl": ["runs"],
    "runs/a/plans.json": ["plan", "a"],
    "runs/a/start.json": ["logs", "a"],
    "runs/a/job.yaml": ["resume", "a"],
    "runs/a/logs/g2/rank0.log": ["logs", "a", "--tail", "0"],
    "job.yaml": ["run", "job.yaml"],
    "other.yaml": ["plan", "other.yaml"],
    "checkpoints/log/00000002.json": ["checkpoint", "show", "checkpoints"],
    "checkpoints/log/00000004.json": ["checkpoint", "list", "checkpoints"],
}


@pytest.fixture(scope="module")
def brackets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("large") / "brackets"
    path.write_bytes(b'{"a":' + b"[" * SIZE)
    yield path
    path.unlink()


@pytest.mark.parametrize("content", ["zeros", "brackets"])
@pytest.mark.parametrize("name", CASES)
def test_each_is_dealt_with_in_a_moment(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    brackets: Path,
    name: str,
    content: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    leave_run(tmp_path / "runs" / "a", steps=3, state="failed")
    shutil.copytree(GOLDEN, tmp_path / "checkpoints")
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if content == "zeros":
        path.touch()
        os.truncate(path, SIZE)
    else:
        path.hardlink_to(brackets)
    began = time.monotonic()
    code = main(CASES[name])
    assert time.monotonic() - began < MOMENT
    shown = capsys.readouterr()
    # What a run's directory still tells is told, with the damage beside it.
    assert code in (0, 1, 2)
    assert (code == 0) or len(shown.err.splitlines()) == 1, shown.err
    assert len(shown.out + shown.err) < 5000
    damaged = name.endswith(("status.json", "plans.json", "start.json", "yaml", "00000002.json"))
    assert bool(code) == damaged, shown
