"""An agent's record of a run, while its directory is not as it should be."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.story import generation
from trainer.agent.record import Record
from trainer.agent.vital_signs import StoodStill
from trainer.command.job_launch import job_launch
from trainer.command.run import parse
from trainer.telemetry import Progress, RunDirectory, turn
from trainer.telemetry.files import read_json, read_lines, replace


class Speaker:
    """The worker of rank 0, as far as a record looks at it."""

    rank = 0


def step(number: int) -> dict[str, Any]:
    return {
        "type": "step",
        "generation": 1,
        "step": number,
        "loss": 1.0,
        "step_seconds": 0.1,
        "tokens": 10,
        "norm": 1.0,
    }


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    made = RunDirectory(tmp_path / "runs" / "r")
    made.create()
    return made


def record_in(
    directory: RunDirectory,
    tmp_path: Path,
    node: str = "a",
    shown: io.StringIO | None = None,
    *,
    nodes: str = "",
) -> Record:
    """The record of `node` in a generation of `nodes`, or in one in which `a` comes first."""
    (tmp_path / "job.yaml").write_text("model: {preset: debug}\nrun: {id: r}\n")
    launch = job_launch(parse([str(tmp_path / "job.yaml")]))
    progress = Progress(shown or io.StringIO(), total_steps=3, live=False)
    record = Record(launch, directory, node, "127.0.0.1", progress)
    record.generation(generation(1, *(nodes or sorted({"a", node}))))
    return record


def test_a_node_that_keeps_nothing_shows_how_far_the_run_is(
    tmp_path: Path, directory: RunDirectory
) -> None:
    """Its console would still say that it waits; and it shows a step once, not once a rank."""
    shown = io.StringIO()
    record = record_in(directory, tmp_path, "b", shown)
    said = {"type": "step", "generation": 1, "step": 1}
    record.heard(Speaker(), said)  # type: ignore[arg-type]
    record.heard(Speaker(), said)  # type: ignore[arg-type]
    record.close()
    first, second = shown.getvalue().splitlines()
    assert first.startswith("generation 1: ")
    assert second.split() == ["step", "1/3", *second.split()[2:-2], "generation", "1"]
    assert not directory.metrics.exists()


@pytest.mark.parametrize("stray", ['{"workers": 5}', '{"workers": [5]}', '{"workers": {"a": 1}}'])
def test_a_stray_file_costs_neither_summary_nor_events(
    tmp_path: Path, directory: RunDirectory, stray: str
) -> None:
    (directory.agents / "other.json").write_text(stray)
    record = record_in(directory, tmp_path)
    record.flush_status("running", [], force=True)
    record.end("completed", "all is done", whole=True)
    record.close()
    summary = read_json(directory.summary)
    assert summary is not None
    assert summary["status"] == "completed"
    assert [event["event"] for event in read_lines(directory.events)][-1] == "run.end"


def test_a_turn_that_could_not_be_taken_is_taken_once_there_is_room(
    tmp_path: Path,
    directory: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """1. the disk is full when the node begins to keep the record, and for one line more; 2. there
    is room again: what follows is written."""
    full = [True, True]

    def write(path: Path, text: str) -> None:
        if full:
            full.pop()
            raise OSError(28, "No space left on device")
        replace(path, text)

    monkeypatch.setattr(turn, "replace", write)
    record = record_in(directory, tmp_path)
    for number in (1, 2, 3):
        record.heard(Speaker(), step(number))  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR):
        record.close()
    written = [line["step"] for line in read_lines(directory.metrics)]
    assert written == [2, 3]
    assert "lacks 1 entries: [Errno 28] No space left on device" in caplog.text
    assert json.loads(directory.metrics.read_text().splitlines()[-1])["loss"] == 1.0


def test_every_key_of_a_status_is_described(tmp_path: Path, directory: RunDirectory) -> None:
    record = record_in(directory, tmp_path)
    record.flush_status("running", [], force=True)
    record.close()
    status = read_json(directory.status)
    assert status is not None
    page = (Path(__file__).parents[3] / "docs" / "run-directory.md").read_text()
    described = page[page.index("## status.json") : page.index("## plans.json")]
    keys = {*status, "live", *status["agents"][0]}
    assert not [key for key in keys if f"`{key}`" not in described]


def begun(directory: RunDirectory) -> list[int]:
    told = read_lines(directory.events)
    return [event["generation"] for event in told if event["event"] == "generation.begin"]


def steps(directory: RunDirectory) -> list[int]:
    return [line["step"] for line in read_lines(directory.metrics)]


@pytest.mark.parametrize("told_first", [False, True])
def test_a_node_that_is_cut_off_does_not_take_the_record_from_the_first(
    tmp_path: Path, directory: RunDirectory, told_first: bool
) -> None:
    """1. b hears no service any more, and keeps the record in case that a is lost; 2. a has gone on
    without b, and is told of the new generation before or after that; 3. every step is written."""
    first = record_in(directory, tmp_path, "a", nodes="ab")
    second = record_in(directory, tmp_path, "b", nodes="ab")
    first.heard(Speaker(), step(1))  # type: ignore[arg-type]
    first.flush_status("running", [], force=True)
    first.heard(Speaker(), step(2))  # type: ignore[arg-type]
    first._pen.wait()
    if told_first:
        first.generation(generation(2, "a"))
    second.orphaned()
    second.flush_status("waiting", [], force=True)
    second._pen.wait()
    if not told_first:
        first.generation(generation(2, "a"))
    first.heard(Speaker(), step(3) | {"generation": 2})  # type: ignore[arg-type]
    first.flush_status("running", [], force=True)
    first.close()
    second.flush_status("waiting", [], force=True)
    second.close()
    assert steps(directory) == [1, 2, 3]
    status = read_json(directory.status)
    assert status is not None
    assert (status["generation"], status["step"]) == (2, 3)


def test_what_another_has_written_meanwhile_is_not_written_again(
    tmp_path: Path, directory: RunDirectory
) -> None:
    first = record_in(directory, tmp_path, "a", nodes="ab")
    second = record_in(directory, tmp_path, "b", nodes="ab")
    second.orphaned()
    second.heard(Speaker(), step(1))  # type: ignore[arg-type]
    second.close()
    first.heard(Speaker(), step(1))  # type: ignore[arg-type]
    first.heard(Speaker(), step(2))  # type: ignore[arg-type]
    first.close()
    assert steps(directory) == [1, 2]


def test_who_was_stopped_tells_of_no_generation_that_is_over(
    tmp_path: Path, directory: RunDirectory
) -> None:
    """a goes on with words in its ears that the others have long forgotten."""
    first = record_in(directory, tmp_path, "a", nodes="ab")
    second = record_in(directory, tmp_path, "b", nodes="ab")
    first.generation(generation(2, "a", "b"))
    first._pen.wait()
    second.generation(generation(2, "a", "b"))
    second.generation(generation(4, "b"))
    second._pen.wait()
    first.generation(generation(3, "a", "b"))
    first.heard(Speaker(), step(5) | {"generation": 3})  # type: ignore[arg-type]
    first.close()
    second.close()
    assert begun(directory) == [1, 2, 4]
    assert steps(directory) == []


def lasting(number: int, seconds: float, **more: float) -> dict[str, Any]:
    return step(number) | {"step_seconds": seconds} | more


def test_a_node_that_was_left_behind_does_not_count_its_standstill(
    tmp_path: Path, directory: RunDirectory
) -> None:
    """
    1. a stands still for 40 s.
    2. b goes on without it, and keeps the record.
    3. a comes back, and b is lost: a goes on from what b has written.
    """
    first = record_in(directory, tmp_path, "a", nodes="ab")
    second = record_in(directory, tmp_path, "b", nodes="ab")
    for number in range(1, 21):
        first.heard(Speaker(), lasting(number, 0.5))  # type: ignore[arg-type]
    first.flush_status("running", [], force=True)
    first._pen.wait()
    second.generation(generation(2, "b"))
    second.heard(Speaker(), lasting(21, 0.5) | {"generation": 2})  # type: ignore[arg-type]
    second.flush_status("running", [], force=True)
    second._pen.wait()
    first.stood_still(StoodStill(begin=0.0, end=40.0, seconds=40.0, why="it was stopped"))
    first.generation(generation(3, "b", "a"))
    first.generation(generation(4, "a"))
    first.heard(Speaker(), lasting(22, 0.5) | {"generation": 4})  # type: ignore[arg-type]
    summary = first.end("completed", "all is done", whole=True)
    first.close()
    second.close()
    assert summary is not None
    assert steps(directory) == list(range(1, 23))
    assert summary["stood_still_seconds"] == 0.0
    told = [e for e in read_lines(directory.events) if e["event"] == "node.stood_still"]
    assert [(event["node"], event["seconds"]) for event in told] == [("a", 40.0)]


def test_a_standstill_within_a_step_counts_once(tmp_path: Path, directory: RunDirectory) -> None:
    shown = io.StringIO()
    record = record_in(directory, tmp_path, "a", shown)
    record._began -= 100.0
    for number in range(1, 41):
        record.heard(Speaker(), lasting(number, 0.5))  # type: ignore[arg-type]
    record.stood_still(StoodStill(begin=0.0, end=41.0, seconds=41.0, why="pid 7 was stopped"))
    record.heard(Speaker(), lasting(41, 40.5, stood_still=40.0))  # type: ignore[arg-type]
    summary = record.end("completed", "all is done", whole=True)
    record.close()
    assert summary is not None
    assert summary["good_seconds"] == pytest.approx(20.5)
    assert summary["stood_still_seconds"] == pytest.approx(41.0)
    parts = ("good_seconds", "stood_still_seconds", "other_seconds")
    assert sum(summary[part] for part in parts) == pytest.approx(summary["wall_seconds"])
    assert summary["goodput"] == pytest.approx(20.5 / summary["wall_seconds"])
    assert "stood still for 0:41: pid 7 was stopped" in shown.getvalue()
