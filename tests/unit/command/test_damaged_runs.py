"""Files of a run directory in which one thing is of another kind: what else there is, is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.command.run_directories import leave_run
from trainer.command import main

PART = '{"node": "a", "pid": 1, "host": "h", "state": "running", "generation": 2, "workers": %s}'
LOSS = {"node": "a", "mesh": "", "ranks": 0, "reason": "r", "bytes_to_move": None}
DAMAGED = {
    "a part whose workers are a number": ("agents/a.json", PART % ("1" + "0" * 4000), "workers"),
    "a part whose workers are numbers": ("agents/a.json", PART % "[1]", "workers"),
    "plans that don't say who waits": (
        "plans.json",
        json.dumps({"generation": 2, "without": [LOSS | {"steps_at_risk": 2}]}),
        "without[0]: waits is missing",
    ),
}


@pytest.mark.parametrize(("name", "content", "words"), DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("command", ["status", "plan", "scale", "drain", "logs"])
def test_no_command_breaks_off(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
    words: str,
    command: str,
) -> None:
    directory = leave_run(tmp_path / "r", steps=3)
    directory.lock(alone=True)
    (tmp_path / "r" / name).write_text(content)
    more = ["--nodes", "2"] if command == "scale" else []
    try:
        code = main([command, str(tmp_path / "r"), *more])
    finally:
        directory.unlock()
    shown = capsys.readouterr()
    if command == "status":
        assert code == 0
        assert "step 3/9" in shown.out
        assert words in shown.out
        return
    assert code == 2
    assert len(shown.err.splitlines()) == 1
    assert (words in shown.err) == (command == "plan" and name == "plans.json")
