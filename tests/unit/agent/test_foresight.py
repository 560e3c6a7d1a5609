"""Plans are made while a generation runs, and left when it is over."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rendezvous.generation import Generation, Member
from trainer.agent.foresight import Foresight
from trainer.command import main
from trainer.telemetry import RunDirectory


def generation(number: int, *nodes: str) -> Generation:
    members = tuple(
        Member(node=node, incarnation=1, slots=2, host=node, store_endpoint="") for node in nodes
    )
    return Generation(number=number, members=members, reason="why")


def plan_of(node: str) -> dict[str, object]:
    return {
        "node": node,
        "mesh": "dp 2",
        "ranks": 2,
        "waits": False,
        "reason": "",
        "bytes_to_move": 2048,
        "steps_at_risk": 10,
    }


def settle() -> None:
    for thread in threading.enumerate():
        if thread.name == "foresight":
            thread.join()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RunDirectory]:
    """Of a run that is going on, as far as anybody can see."""
    directory = RunDirectory(tmp_path)
    directory.create()
    directory.job.write_text("{}")
    directory.lock(alone=True)
    yield directory
    directory.unlock()


def test_the_plans_of_a_generation_are_kept_whole_and_shown(
    directory: RunDirectory, tmp_path: Path, capsys
) -> None:
    foresight = Foresight(lambda _generation, node: plan_of(node), directory.plans)
    foresight.begin(generation(3, "a", "b"))
    settle()
    kept = json.loads(directory.plans.read_text())
    assert (kept["generation"], [plan["node"] for plan in kept["without"]]) == (3, ["a", "b"])
    status = {"run_id": "r", "state": "running", "generation": 3}
    directory.status.write_text(json.dumps(status))
    assert main(["plan", str(tmp_path), "--without", "b"]) == 0
    shown = capsys.readouterr().out
    assert "without        b" in shown
    assert "state to move  2.0 KiB" in shown
    assert "steps at risk  10" in shown
    assert main(["status", str(tmp_path)]) == 0
    assert "without a or b: mesh dp 2, 10 steps at risk" in capsys.readouterr().out
    assert main(["plan", str(tmp_path), "--without", "z"]) == 2
    assert "no node of generation 3 is called z: a, b" in capsys.readouterr().err


def test_plans_of_an_older_generation_are_not_shown_for_a_newer_one(
    directory: RunDirectory, tmp_path: Path, capsys
) -> None:
    document = {"generation": 2, "without": [plan_of("a")]}
    directory.plans.write_text(json.dumps(document))
    directory.status.write_text(json.dumps({"run_id": "r", "state": "running", "generation": 3}))
    assert main(["status", str(tmp_path)]) == 0
    assert "without" not in capsys.readouterr().out


def test_a_generation_that_is_over_is_not_planned_to_the_end(tmp_path: Path) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    planned = []

    def plan(at: Generation, node: str) -> dict[str, object]:
        planned.append((at.number, node))
        if at.number == 1:
            begun.set()
            assert goes_on.wait(60)
        return plan_of(node)

    foresight = Foresight(plan, tmp_path / "plans.json")
    foresight.begin(generation(1, "a", "b"))
    assert begun.wait(60)
    foresight.begin(generation(2, "a"))
    goes_on.set()
    settle()
    assert planned.count((1, "b")) == 0
    assert json.loads((tmp_path / "plans.json").read_text())["generation"] == 2
