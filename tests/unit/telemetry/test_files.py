"""Files that others read while they are written."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from trainer.errors import JobError
from trainer.telemetry import Progress, RunDirectory, read_status
from trainer.telemetry.files import LineFile, read_json, read_lines, replace_json
from trainer.telemetry.progress import Meter, amount, duration, mesh_text
from trainer.telemetry.status import merge, write_part, write_status


def test_lines_of_two_writers_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    one, two = LineFile(path), LineFile(path)
    for number in range(50):
        one.append({"writer": 1, "number": number, "text": "x" * 500})
        two.append({"writer": 2, "number": number, "text": "y" * 500})
    one.close()
    two.close()
    two.close()
    records = list(read_lines(path))
    assert len(records) == 100
    for writer in (1, 2):
        assert [r["number"] for r in records if r["writer"] == writer] == list(range(50))


def test_a_line_that_a_full_disk_cuts_short_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. there is room for 5 bytes; 2. for none; 3. for all"""
    path, write = tmp_path / "metrics.jsonl", os.write
    lines = LineFile(path)
    lines.append({"step": 1})
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:5]))
    with pytest.raises(OSError, match="No space left"):
        lines.append({"step": 2})

    def full(_file: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        lines.append({"step": 3})
    monkeypatch.setattr(os, "write", write)
    lines.append({"step": 4})
    lines.append({"step": 5})
    lines.close()
    assert [record["step"] for record in read_lines(path)] == [1, 4, 5]


def test_a_draft_that_a_full_disk_cuts_short_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "status.json", Path.write_text
    replace_json(path, {"number": 1})

    def half(draft: Path, text: str, encoding: str) -> int:
        write(draft, text[:5], encoding=encoding)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space left"):
        replace_json(path, {"number": 2})
    assert read_json(path) == {"number": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["status.json"]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n\n[1]\n{"step": 2}\n{"ste')
    assert [record["step"] for record in read_lines(path)] == [1, 2]
    assert list(read_lines(tmp_path / "missing")) == []


def test_json_is_replaced_whole_and_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    inodes = set()
    for number in range(3):
        replace_json(path, {"number": number})
        inodes.add(path.stat().st_ino)
        assert read_json(path) == {"number": number}
    assert [entry.name for entry in tmp_path.iterdir()] == ["status.json"]
    path.write_text("[")
    assert read_json(path) is None


def test_a_run_directory_is_locked_by_its_launch(tmp_path: Path) -> None:
    first, second = RunDirectory(tmp_path / "r"), RunDirectory(tmp_path / "r")
    assert first.create()
    first.lock(alone=True)
    with pytest.raises(JobError, match="another process"):
        second.lock(alone=True)
    with pytest.raises(JobError, match="another process"):
        second.lock(alone=False)
    first.unlock()
    first.lock(alone=False)
    second.lock(alone=False)
    assert first.log(3, 7) == tmp_path / "r" / "logs" / "g3" / "rank7.log"


def test_a_directory_that_cannot_be_made_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match=r"run\.directory"):
        RunDirectory(tmp_path / "file" / "r").create()


def test_the_status_is_put_together_from_the_agents_parts(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.create()
    assert read_status(tmp_path) is None
    worker = {"rank": 1, "pid": 11, "state": "running"}
    spare = {"rank": None, "pid": 12, "state": "standby"}
    write_part(directory, "b", {"generation": 2, "state": "running", "workers": [spare, worker]})
    write_part(directory, "a", {"generation": 1, "state": "running", "workers": []})
    write_status(directory, {"generation": 2, "step": 5})
    status = read_status(tmp_path)
    assert status is not None
    assert [(agent["node"], agent["current"]) for agent in status["agents"]] == [
        ("a", False),
        ("b", True),
    ]
    assert [worker["rank"] for worker in status["workers"]] == [1, None]
    assert status["step"] == 5
    write_part(directory, "a", {"generation": 2, "workers": [{"rank": 0, "pid": 9}]})
    status = read_status(tmp_path)
    assert status is not None
    assert [worker["rank"] for worker in status["workers"]] == [0, 1, None]


def test_merging_changes_nothing_it_is_given() -> None:
    parts = {"a": {"generation": 1, "workers": [{"rank": 0}]}}
    merge({"generation": 1}, parts)
    assert parts == {"a": {"generation": 1, "workers": [{"rank": 0}]}}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (75, "1:15"), (3700, "1:01:40"), (59.6, "1:00")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_words_of_the_progress_line() -> None:
    assert [amount(v) for v in (12.0, 1234.0, 5.6e6, 7.2e9)] == ["12", "1.23k", "5.6M", "7.2G"]
    assert mesh_text({"pp": 2, "dp_replicate": 1, "dp_shard": 3, "tp": 1}) == "pp2×dp_shard3"
    assert mesh_text({"pp": 1}) == "1 rank"
    assert mesh_text(None) == ""
    meter = Meter(100)
    meter.generation, meter.mesh = 2, "dp 4"
    assert meter.line() == "generation 2  dp 4"
    meter.step({"step": 40, "loss": 2.5, "tokens": 600, "step_seconds": 0.5, "generation": 2})
    assert meter.line() == ("step 40/100  loss 2.5000  1.2k tokens/s  dp 4  generation 2  ETA 0:30")


def test_plain_progress_is_a_line_now_and_then() -> None:
    now = 0.0
    stream = io.StringIO()
    progress = Progress(stream, total_steps=20, clock=lambda: now)
    for step in range(1, 21):
        progress.step({"step": step, "loss": 1.0, "step_seconds": 1.0, "generation": 1})
        now += 1.0
    progress.notice("done")
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines[:-1]] == [
        "1/20",
        "6/20",
        "11/20",
        "16/20",
        "20/20",
    ]
    assert lines[-1] == "done"


def test_a_terminal_without_a_cursor_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live line would be seen at the end alone."""
    monkeypatch.setenv("TERM", "dumb")
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    progress = Progress(stream, total_steps=20)
    progress.step({"step": 1, "loss": 2.0})
    assert stream.getvalue().startswith("step 1/20  loss 2.0000")
