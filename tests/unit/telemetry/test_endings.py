"""What the run directory says of how nodes ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainer.telemetry import RunDirectory
from trainer.telemetry.endings import NodeEnd, read_ends, run_end, writes_summary
from trainer.telemetry.status import write_part


def end(**changes: Any) -> NodeEnd:
    said = {"generation": 3, "status": "completed", "reason": "why", "code": 0}
    return NodeEnd(**{**said, "whole": False, "gone": False, **changes})


def test_an_end_is_read_as_it_was_written(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.create()
    write_part(directory, "a", {"end": end(gone=True).to_json()})
    write_part(directory, "b", {"end": None})
    write_part(directory, "c", {})
    assert read_ends(directory) == {"a": end(gone=True)}


@pytest.mark.parametrize(
    "damage", [{"generation": "3"}, {"status": None}, {"whole": 1}, {"gone": "no"}, {"code": []}]
)
def test_what_no_agent_has_written_is_no_end(damage: dict[str, Any]) -> None:
    assert NodeEnd.from_json(end().to_json() | damage) is None
    assert NodeEnd.from_json([1]) is None


def test_the_run_is_over_when_one_says_so_of_all_or_all_of_themselves() -> None:
    assert run_end({}, ["a", "b"], 3) is None
    assert run_end({"a": end()}, ["a", "b"], 3) is None
    both = run_end({"a": end(), "b": end()}, ["a", "b"], 3)
    assert both is not None
    assert (both.status, both.whole) == ("completed", True)
    failed = end(status="failed", code=1, whole=True)
    assert run_end({"a": end(), "b": failed}, ["a", "b", "c"], 3) == failed
    stopped = run_end({"a": end(), "b": end(status="stopped")}, ["a", "b"], 3)
    assert stopped is not None
    assert stopped.status == "stopped"


def test_who_drained_leaves_the_run_to_others() -> None:
    drained = end(status="drained", code=75, gone=True)
    assert run_end({"a": end(), "b": drained}, ["a", "b"], 3) is None


def test_the_end_of_an_earlier_start_is_not_of_this_one() -> None:
    old = end(generation=2, status="stopped", code=75, whole=True)
    assert run_end({"a": old, "b": old}, ["a", "b"], 3) is None
    assert run_end({"a": old}, [], 3) is None, "a spare that knows of no generation"


def test_one_node_writes_the_summary() -> None:
    def writes(first: NodeEnd | None, **about: bool) -> bool:
        return writes_summary(
            first, **{"is_first": False, "waits": False, "written": False, **about}
        )

    assert writes(None, is_first=True, written=True), "a start that resumed writes it anew"
    assert not writes(None)
    assert not writes(end())
    assert not writes(end(gone=True, whole=True))
    assert writes(end(gone=True)), "it has gone without knowing how the others would end"
    assert writes(None, waits=True)
    assert not writes(None, waits=True, written=True)
    assert not writes(end(whole=True), waits=True)
