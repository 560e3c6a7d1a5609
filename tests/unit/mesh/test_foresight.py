"""What would follow from the loss of one node: another mesh, another pipeline, or waiting."""

from __future__ import annotations

import json

import pytest

from trainer.errors import PlanError
from trainer.job import from_mapping
from trainer.mesh import NodeSlots, foresee, least_nodes, plan_job, rows


def job_of(**sections):
    model = {"preset": "debug", "heads": 4, "kv_heads": 4, "layers": 4}
    return from_mapping({"model": model, "train": {"microbatches": 4}, **sections})


def nodes(*slots):
    return [NodeSlots(node=f"n{index}", slots=count) for index, count in enumerate(slots)]


def replanned(job, *slots):
    return plan_job(job, nodes(*slots), replan=job.elastic.replan, pieces=job.pieces(max(slots)))


def test_data_shrinks_first():
    job = job_of(elastic={"nodes": "1:4", "nproc_per_node": 2}, parallel={"pipeline": 2})
    assert replanned(job, 2, 2, 2, 2).describe() == "dp 4 × pp 2"
    loss = foresee(job, nodes(2, 2, 2, 2), "n1")
    assert (loss.mesh, loss.ranks, loss.waits, loss.reason) == ("dp 3 × pp 2", 6, False, "")
    assert loss.steps_at_risk == job.elastic.mirror_every
    assert loss.bytes_to_move


def test_where_no_whole_pipeline_fits_it_gets_shorter():
    job = job_of(elastic={"nodes": "1:4", "nproc_per_node": 1}, parallel={"pipeline": 4})
    assert replanned(job, 1, 1, 1, 1).pp == 4
    assert foresee(job, nodes(1, 1, 1, 1), "n0").mesh == "pp 3"
    assert foresee(job, nodes(1, 1, 1), "n0").mesh == "pp 2"
    assert foresee(job, nodes(1, 1), "n1").mesh == "one rank"


def test_tensor_groups_get_smaller_only_where_the_job_allows_it():
    sections = {"parallel": {"tensor": 4, "tensor_across_nodes": True}}
    kept = job_of(elastic={"nodes": "1:2", "nproc_per_node": 2}, **sections)
    loss = foresee(kept, nodes(2, 2), "n0")
    assert loss.waits
    assert "tp 4" in loss.reason
    elastic = {"nodes": "1:2", "nproc_per_node": 2, "replan": "tensor"}
    assert foresee(job_of(elastic=elastic, **sections), nodes(2, 2), "n0").mesh == "tp 2"


def test_data_alone_may_not_touch_the_pipeline():
    elastic = {"nodes": "1:2", "nproc_per_node": 1, "replan": "data"}
    job = job_of(elastic=elastic, parallel={"pipeline": 2})
    loss = foresee(job, nodes(1, 1), "n1")
    assert (loss.waits, loss.mesh) == (True, "")
    assert "pp 2 needs 2 ranks" in loss.reason


def test_below_the_minimum_the_job_waits():
    job = job_of(elastic={"nodes": "2:4", "nproc_per_node": 2, "wait": 90, "mirror_every": 5})
    loss = foresee(job, nodes(2, 2), "n0")
    assert (loss.waits, loss.mesh, loss.steps_at_risk) == (True, "", 5)
    assert loss.reason == "1 of at least 2 nodes: the job waits for others up to 90 s"
    shown = dict(rows(job, nodes(2, 2), without="n0"))
    assert shown == {"without": "n0", "mesh": f"none: {loss.reason}", "steps at risk": "5"}
    assert json.loads(json.dumps(loss.to_dict()))["node"] == "n0"


def test_an_unknown_node_is_an_error():
    with pytest.raises(PlanError, match="no node is called x; there are n0"):
        foresee(job_of(elastic={"nproc_per_node": 2}), nodes(2), "x")


@pytest.mark.parametrize(
    ("elastic", "parallel", "least"),
    [
        ({"nodes": "1:4"}, {"pipeline": 4}, 1),
        ({"nodes": "1:4", "replan": "data"}, {"pipeline": 4}, 2),
        ({"nodes": "3:4", "replan": "data"}, {"pipeline": 4}, 3),
        ({"nodes": "1:4", "replan": "pipeline"}, {"tensor": 4, "tensor_across_nodes": True}, 2),
        ({"nodes": "1:4", "replan": "tensor"}, {"tensor": 4, "tensor_across_nodes": True}, 1),
    ],
)
def test_the_fewest_nodes_are_those_that_a_mesh_fits(elastic, parallel, least):
    job = job_of(elastic={"nproc_per_node": 2, **elastic}, parallel=parallel)
    assert least_nodes(job, 2) == least


def test_a_job_that_fits_nowhere_has_no_least_number():
    job = job_of(
        elastic={"nodes": "1:2", "nproc_per_node": 1, "replan": "data"}, parallel={"pipeline": 4}
    )
    with pytest.raises(PlanError, match="pp 4 needs 4 ranks"):
        least_nodes(job, 1)
