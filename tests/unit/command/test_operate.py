"""Finding a run that goes on, and what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.command import main
from trainer.command.operate import open_run
from trainer.errors import JobError
from trainer.telemetry import RunDirectory


def write_run(root: Path, **head: Any) -> Path:
    """A run of nodes a and b; `head` overrides keys of the status."""
    directory = RunDirectory(root)
    directory.create()
    status = {"run_id": root.name, "state": "running", "generation": 2, **head}
    directory.status.write_text(json.dumps(status))
    for node, generation in (("a", 2), ("b", 2), ("gone", 1)):
        part = {"node": node, "pid": 1, "host": "h", "state": "running", "generation": generation}
        (directory.agents / f"{node}.json").write_text(json.dumps(part))
    return root


MEETING = {"endpoints": ["r0:29400", "r1:29400"], "files": {"token_file": "/secrets/token"}}


def test_a_run_is_found_by_its_directory_and_by_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "seven", rendezvous=MEETING)
    for word in ("seven", "runs/seven", str(tmp_path / "runs" / "seven")):
        run = open_run(word)
        assert run.run_id == "seven"
        assert run.endpoints == ("r0:29400", "r1:29400")
        assert run.files == {"token_file": "/secrets/token"}
        assert run.nodes == ["a", "b"]


@pytest.mark.parametrize("state", ["completed", "stopped", "drained", "failed"])
def test_a_run_that_is_over_is_not_asked(tmp_path: Path, state: str) -> None:
    root = write_run(tmp_path / "r", state=state, rendezvous=MEETING)
    with pytest.raises(JobError, match=f"run r is over \\({state}\\)"):
        open_run(str(root))


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is no run directory, and no run below"):
        open_run(str(tmp_path))


def test_a_run_without_a_service_cannot_be_scaled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_run(tmp_path / "r", rendezvous={"endpoints": [], "files": {}})
    assert main(["scale", str(root), "--nodes", "3"]) == 2
    assert "run r has one node" in capsys.readouterr().err


def test_the_agent_of_a_run_without_a_service_is_never_a_process_that_does_not_hold_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_run(tmp_path / "r", rendezvous={"endpoints": [], "files": {}})
    assert main(["drain", str(root)]) == 2
    assert "`kill -TERM 1` drains it" in capsys.readouterr().err


def test_a_node_that_the_run_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_run(tmp_path / "r", rendezvous=MEETING)
    assert main(["drain", str(root), "--node", "z"]) == 2
    assert "run r has no node z; it has a, b" in capsys.readouterr().err


def test_a_service_that_is_not_there_is_said_with_its_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = {"endpoints": ["127.0.0.1:1"], "files": {}}
    root = write_run(tmp_path / "r", rendezvous=nobody)
    assert main(["scale", str(root), "--nodes=1"]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_a_name_that_is_no_run_here_is_one_of_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.deploy import cli

    asked: list[list[str]] = []
    monkeypatch.setattr(cli, "main", lambda argv: asked.append(list(argv)) or 0)
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "r", rendezvous=MEETING)
    assert main(["scale", "elsewhere", "--nodes", "3"]) == 0
    assert main(["drain", "r", "--cluster"]) == 0
    assert main(["drain", "-n", "team", "r"]) == 0
    assert asked == [
        ["scale", "elsewhere", "--nodes", "3"],
        ["drain", "r"],
        ["drain", "-n", "team", "r"],
    ]
