"""A pipeline that no longer fits: a shorter one takes over, as was foreseen, to the same bits."""

from __future__ import annotations

import json

import pytest

from tests.integration.launcher.crew import Crew, job
from tests.integration.launcher.launching import Launcher, wait_for


@pytest.mark.slow
def test_the_loss_of_a_node_makes_the_pipeline_shorter_and_the_record_sound(
    launcher: Launcher,
) -> None:
    """
    1. the job runs on two nodes of one rank each, one stage a node
    2. while it runs, the loss of either is planned for: one rank with both stages
    3. one is killed; the mesh becomes what was foreseen
    4. the weights are those of a run in which nothing happened, and the audit finds nothing
    """
    sections = {
        "parallel": {"pipeline": 2, "data": 1},
        "train": {"microbatches": 2, "pieces": 2, "steps": 40},
    }
    quiet = Crew(launcher, job(elastic={"nodes": "1", "nproc_per_node": 2}, **sections))
    ended = launcher.remesh("job.yaml", "--rdzv-id", "quiet")
    assert ended.code == 0, ended.err
    quiet.root = launcher.folder / "runs" / "quiet"
    crew = Crew(
        launcher, job(elastic={"nodes": "1:2", "nproc_per_node": 1, "mirror_every": 4}, **sections)
    )
    agents = {node: crew.agent(node) for node in "ab"}
    wait_for((crew.root / "plans.json").exists, "the losses are planned for")
    crew.reach(6)
    kept = json.loads((crew.root / "plans.json").read_text())
    assert [(p["node"], p["mesh"], p["steps_at_risk"]) for p in kept["without"]] == [
        (node, "one rank", 4) for node in crew.members()[0]
    ]
    code, out, _ = crew.command("plan", "crew", "--without", "b")
    assert code == 0
    assert "one rank" in out
    agents["b"].kill()
    ended = launcher.end(agents["a"])
    assert ended.code == 0, ended.err
    assert [event["mesh"] for event in crew.events("generation.begin")] == ["pp 2", "one rank"]
    summary = crew.summary()
    assert summary["weights_sha256"] == quiet.summary()["weights_sha256"]
    assert summary["lost_steps"] <= 4 + 1
    code, out, _ = crew.command("audit", "crew")
    assert code == 0, out
    assert out.endswith("the record is sound\n")
