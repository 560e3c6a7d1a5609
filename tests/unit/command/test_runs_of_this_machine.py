"""`remesh runs`, `status`, `logs` and `delete` on run directories, whoever left them."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path

import pytest

from tests.unit.command.run_directories import leave_run
from trainer.command import main, status
from trainer.command.run_logs import seek_lines
from trainer.telemetry import RunDirectory


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_runs_are_listed_newest_first(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_run(here / "old", steps=9, state="completed", time=1000.0, began=500.0)
    leave_run(here / "new", steps=3)
    assert main(["runs"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "state", "step", "loss", "began", "changed"]
    assert first.split()[:4] == ["new", "dead", "3/9", "1.3333"]
    assert second.split()[:4] == ["old", "completed", "9/9", "0.4444"]
    assert main(["runs", "--json"]) == 0
    assert [run["run_id"] for run in json.loads(capsys.readouterr().out)] == ["new", "old"]


def test_a_narrow_terminal_gets_whole_names(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "a-name-that-is-longer-than-the-terminal-is-wide"
    leave_run(here / name, steps=3)
    assert main(["runs"]) == 0
    assert name in capsys.readouterr().out


@pytest.mark.parametrize(("holds", "told"), [("job.yaml", "remesh resume d"), ("x", "give a file")])
def test_a_directory_is_no_script(
    here: Path, capsys: pytest.CaptureFixture[str], holds: str, told: str
) -> None:
    (here.parent / "d").mkdir()
    (here.parent / "d" / holds).touch()
    assert main(["run", "d"]) == 2
    err = capsys.readouterr().err
    assert "d is a directory" in err
    assert told in err


@pytest.mark.parametrize(
    ("states", "expected"),
    [(["drained"], "drained"), (["drained", "joining"], "dead"), ([], "dead")],
)
def test_a_run_that_was_left_before_a_generation_is_not_dead(
    here: Path, capsys: pytest.CaptureFixture[str], states: list[str], expected: str
) -> None:
    """Nobody has written its status; what its agents say of themselves counts."""
    directory = leave_run(here / "r")
    directory.status.unlink()
    (directory.agents / "a.json").unlink()
    for number, state in enumerate(states):
        (directory.agents / f"n{number}.json").write_text(json.dumps({"state": state}))
    assert main(["status", "r"]) == 0
    assert f"r  {expected}  (" in capsys.readouterr().out


def test_no_runs_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 2
    assert "no run in" in capsys.readouterr().err


def test_a_run_that_goes_on_shows_who_takes_part(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = leave_run(here / "a", steps=3)
    directory.lock(alone=True)
    try:
        assert main(["status", "a"]) == 0
    finally:
        directory.unlock()
    out = capsys.readouterr().out
    assert "a  running" in out
    assert "step 3/9" in out
    assert "node a  running  pid 1" in out
    assert "resume" not in out


def test_a_dead_run_is_called_dead_and_says_how_to_go_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_run(here / "a", steps=3)
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "a  dead" in out
    assert "no agent of it is alive" in out
    assert "to go on: remesh resume runs/a" in out
    assert "the pids that it had:\n  node a  pid 1\n" in out


@pytest.mark.parametrize(
    ("job", "endpoints", "told"),
    [
        ("model: {preset: debug}\n", ["h:1"], "to go on: start each node again; one was started"),
        ("entrypoint: {script: /x.py}\n", [], "from what the script itself has saved: remesh run"),
    ],
)
def test_what_no_resume_takes_up_is_started_as_before(
    here: Path, capsys: pytest.CaptureFixture[str], job: str, endpoints: list[str], told: str
) -> None:
    directory = leave_run(here / "a", steps=3)
    directory.job.write_text(job)
    began = {"arguments": ["--node", "a b", "x"], "endpoints": endpoints}
    directory.start.write_text(json.dumps(began))
    assert main(["status", "a"]) == 0
    out = capsys.readouterr().out
    assert told in out
    assert "remesh run --node 'a b' x\n" in out
    assert "resume" not in out


def test_the_newest_runs_log_is_shown_without_a_name(
    here: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    write_logs(leave_run(here / "a", state="drained"))
    assert main(["logs"]) == 0
    assert capfdbinary.readouterr().out == b"a\nb\nc\n"


def test_a_folder_that_may_not_be_read_is_said_in_a_line(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    here.mkdir()
    monkeypatch.setattr(Path, "iterdir", closed)
    assert main(["runs"]) == 2
    assert capsys.readouterr().err == "remesh: runs: Permission denied; whose is it?\n"


def test_a_name_of_a_run_with_spaces_and_accents(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = here.parent / "läufe von heute" / "a"
    leave_run(root, steps=3)
    assert main(["status", str(root)]) == 0
    told = capsys.readouterr().out.rpartition("remesh resume ")[2]
    assert shlex.split(told) == [str(root)]


def test_a_completed_run_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_run(here / "a", steps=9, state="completed", summary=True)
    assert main(["status", str((here / "a").absolute())]) == 0
    out = capsys.readouterr().out
    assert "a  completed" in out
    assert "because: every step is done" in out
    assert "weights sha256 ab12" in out
    assert "resume" not in out


def test_watching_ends_with_the_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_run(here / "a", steps=9, state="completed", summary=True)
    assert main(["status", "--watch", "a"]) == 0
    assert "weights sha256 ab12" in capsys.readouterr().out


def test_on_a_terminal_that_can_not_be_redrawn_changes_are_told(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. a run goes on; 2. it does a step, and some time passes; 3. it is completed."""
    directory = leave_run(here / "a", steps=3)
    directory.lock(alone=True)
    turns = iter(("a step", "the end"))

    def passes(_seconds: float) -> None:
        if next(turns) == "a step":
            leave_run(here / "a", steps=4)
        else:
            directory.unlock()
            leave_run(here / "a", steps=9, state="completed", summary=True)

    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(status, "PLAIN_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr("time.sleep", passes)
    assert main(["status", "--watch", "a"]) == 0
    out = capsys.readouterr().out
    assert [out.count(f"\nstep {n}/9") for n in (3, 4, 9)] == [1, 1, 1]
    assert [out.count(f"a  {word}  (") for word in ("running", "completed")] == [1, 1]
    assert out.index("step 4") < out.index("a  completed") < out.index("weights sha256 ab12")
    assert "\x1b" not in out


def test_a_run_that_has_only_begun_has_a_status(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = leave_run(here / "a")
    directory.status.unlink()
    directory.lock(alone=True)
    try:
        assert main(["status", "a"]) == 0
    finally:
        directory.unlock()
    assert "a  starting" in capsys.readouterr().out


def test_a_name_that_is_nearly_right_is_suggested(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_run(here / "quickstart")
    assert main(["resume", "quikstart"]) == 2
    assert "did you mean quickstart?" in capsys.readouterr().err


def write_logs(directory: RunDirectory) -> None:
    for generation, rank, text in ((1, 0, "first\n"), (2, 0, "a\nb\nc\n"), (2, 1, "other\n")):
        write_log(directory, generation, rank, text)


def write_log(directory: RunDirectory, generation: int, rank: int, text: str) -> None:
    path = directory.log(generation, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "a\nb\nc\n"),
        (["--tail", "2"], "b\nc\n"),
        (["--tail", "0"], ""),
        (["--tail", "9"], "a\nb\nc\n"),
        (["--generation", "1"], "first\n"),
        (["--rank", "1"], "other\n"),
        (["-f"], "a\nb\nc\n"),
    ],
)
def test_logs_are_those_of_a_rank_and_a_generation(
    here: Path, capfdbinary: pytest.CaptureFixture[bytes], flags: list[str], expected: str
) -> None:
    write_logs(leave_run(here / "a", state="drained"))
    assert main(["logs", "a", *flags]) == 0
    assert capfdbinary.readouterr().out.decode() == expected


def test_a_log_that_is_not_there_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_run(here / "a")
    assert main(["logs", "a", "--rank", "7"]) == 2
    assert "rank 7 has no log" in capsys.readouterr().err


def test_logs_may_lie_elsewhere(here: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    directory = leave_run(here / "a", state="drained")
    elsewhere = RunDirectory(here / "a", logs=here.parent / "logs")
    write_log(elsewhere, 1, 0, "there\n")
    directory.start.write_text(json.dumps({"logs": str(elsewhere.logs)}))
    assert main(["logs", "a"]) == 0
    assert capfdbinary.readouterr().out == b"there\n"


@pytest.mark.parametrize("count", [1, 2, 500])
def test_the_last_lines_of_a_long_file(count: int) -> None:
    lines = [b"%d" % n + b"x" * (n % 4000) + b"\n" for n in range(700)]
    file = io.BytesIO(b"".join(lines))
    seek_lines(file, count)
    assert file.read() == b"".join(lines[-count:])


def test_a_run_is_deleted_only_when_somebody_says_yes(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_run(here / "a", state="drained")
    assert main(["delete", "a"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert (here / "a").is_dir()
    assert main(["delete", "a", "--yes"]) == 0
    assert not (here / "a").exists()
    assert here.is_dir()


def test_a_run_that_goes_on_is_not_deleted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = leave_run(here / "a")
    directory.lock(alone=True)
    try:
        assert main(["delete", "a", "--yes"]) == 2
    finally:
        directory.unlock()
    assert "going on" in capsys.readouterr().err
    assert (here / "a" / "job.yaml").exists()
