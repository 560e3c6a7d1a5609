"""A tensor group that no longer fits becomes a smaller one, and is whole again with the node."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.training.crew import JOB, MIRROR_EVERY, Crew, undisturbed
from tests.integration.launcher.launching import Launcher, wait_for
from trainer.telemetry.files import read_lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FLAGS = ("--set=parallel.tensor=4", "--set=parallel.tensor_across_nodes=true")
STEPS = 60
TP_JOB = JOB.replace("steps: 200, pieces: 8", f"steps: {STEPS}, pieces: 2").replace(
    "dim: 64,", "dim: 64, heads: 4, kv_heads: 4,"
)
"""A step of a tensor group takes hundreds of small collectives: fewer pieces, fewer steps."""


def losses(root: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in read_lines(root / "metrics.jsonl")}


def test_the_tensor_group_shrinks_and_grows(
    launcher: Launcher, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """1. tp 4 over two nodes; 2. one is killed: tp 2 on the other; 3. it comes back: tp 4 again.
    Sums over the group are taken in another order, so that only the last bits may differ."""
    quiet = tmp_path_factory.mktemp("undisturbed")
    undisturbed(quiet, *FLAGS, job=TP_JOB)
    (root,) = (quiet / "runs").iterdir()
    crew = Crew(launcher, *FLAGS, "--set=elastic.replan=tensor", job=TP_JOB)
    crew.start("a", "b")
    crew.reach(15)
    crew.kill_node("b")
    wait_for(lambda: crew.nodes == ["a"], "the other goes on")
    crew.reach(crew.step + 10)
    crew.take_in("b")
    summary = crew.end()
    crew.check_nothing_is_left()
    assert [e["mesh"] for e in crew.events("generation.begin")] == ["tp 4", "tp 2", "tp 4"]
    expected, found = losses(root), losses(crew.root)
    assert list(found) == list(range(1, STEPS + 1))
    assert found == pytest.approx(expected, rel=1e-5)
    assert summary["lost_steps"] <= MIRROR_EVERY + 3
