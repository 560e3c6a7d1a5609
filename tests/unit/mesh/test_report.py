"""What a mesh costs, what the loss of a node moves, and how it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.errors import PlanError
from trainer.job import from_mapping, load
from trainer.mesh import NodeSlots, estimate, plan_job, rows, without_node
from trainer.mesh.estimate import STATE_BYTES, bubble

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


def job_of(**sections):
    return from_mapping({"model": {"preset": "debug"}, **sections})


def nodes(*slots):
    return [NodeSlots(node=f"n{index}", slots=count) for index, count in enumerate(slots)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_plans_at_its_most_and_at_its_least(path):
    job = load(path)
    if not job.trains:
        return
    elastic = job.elastic
    slots = elastic.nproc_per_node if isinstance(elastic.nproc_per_node, int) else 8
    for count in (elastic.min_nodes, elastic.max_nodes):
        told = dict(rows(job, nodes(*[slots] * count)))
        assert told["mesh"]
        assert "0 spare" not in told["ranks"]


def test_the_state_of_all_ranks_is_the_state_of_the_model():
    job = job_of(parallel={"tensor": 2}, elastic={"nproc_per_node": 8})
    mesh = plan_job(job, nodes(8))
    costs = estimate(job, mesh, pieces=4)
    assert costs is not None
    assert costs.parameters == job.model.sizes().parameters
    assert costs.parameters_of_rank * mesh.size == pytest.approx(costs.parameters, rel=1e-4)
    assert costs.state_bytes == costs.parameters_of_rank * STATE_BYTES


def test_rounds_and_idle_time():
    job = job_of(train={"pieces": 12}, elastic={"nproc_per_node": 8})
    costs = estimate(job, plan_job(job, nodes(8)), pieces=12)
    assert costs is not None
    assert costs.rounds == 2
    assert costs.idle == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("schedule", "ranks", "microbatches", "stages", "share"),
    [
        ("1f1b", 1, 4, 1, 0.0),
        ("1f1b", 2, 4, 1, 1 / 5),
        ("gpipe", 4, 4, 1, 3 / 7),
        ("interleaved1f1b", 4, 8, 2, 3 / 19),
        ("zbv", 4, 8, 2, 3 / 51),
    ],
)
def test_bubble(schedule, ranks, microbatches, stages, share):
    assert bubble(schedule, ranks, microbatches, stages) == pytest.approx(share)


def test_a_factory_s_model_has_no_estimate_and_still_a_report():
    job = from_mapping(
        {"model": {"factory": "a.b:c"}, "elastic": {"nodes": "1:2", "nproc_per_node": 2}}
    )
    assert estimate(job, plan_job(job, nodes(2, 2)), 4) is None
    assert dict(rows(job, nodes(2, 2), without="n1"))["state to move"]


def test_without_a_node_replicas_lose_nothing_and_mirrors_lose_little():
    elastic = {"nodes": "1:2", "nproc_per_node": 2, "mirror_every": 7}
    sharded = job_of(elastic=elastic)
    assert without_node(sharded, nodes(2, 2), "n1").steps_at_risk == 7
    replicated = job_of(elastic=elastic, parallel={"replicate": 2})
    assert without_node(replicated, nodes(2, 2), "n1").steps_at_risk == 0
    unmirrored = job_of(elastic={**elastic, "mirror_every": 0}, checkpoint={"every": 50})
    assert without_node(unmirrored, nodes(2, 2), "n1").steps_at_risk == 50


def test_bytes_to_move():
    """Two ranks hold half each; the one that is left needs the other half."""
    job = job_of(elastic={"nodes": "1:2", "nproc_per_node": 1})
    state = job.model.sizes().parameters * STATE_BYTES
    moved = without_node(job, nodes(1, 1), "n1").bytes_to_move
    assert moved == pytest.approx(state / 2, rel=1e-3)


def test_a_whole_replica_that_stays_needs_nothing():
    job = job_of(
        elastic={"nodes": "1:2", "nproc_per_node": 2}, parallel={"replicate": 2, "data": 4}
    )
    found = without_node(job, nodes(2, 2), "n1")
    assert found.mesh.dp == 2
    assert found.mesh.dp_replicate == 2
    assert found.bytes_to_move == pytest.approx(
        job.model.sizes().parameters * STATE_BYTES, rel=1e-3
    )


def test_without_the_only_node_or_an_unknown_one():
    job = job_of(elastic={"nproc_per_node": 2})
    with pytest.raises(PlanError, match="without n0 no node is left"):
        without_node(job, nodes(2), "n0")
    with pytest.raises(PlanError, match="no node is called x; there are n0, n1"):
        without_node(job, nodes(2, 2), "x")
