"""The mesh plan: every world gives a valid plan or a reason."""

from __future__ import annotations

from itertools import islice, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.errors import PlanError
from trainer.job import ParallelSection, from_mapping
from trainer.mesh import MeshPlan, NodeSlots, plan, plan_job


def nodes(*slots):
    return [NodeSlots(node=f"n{index}", slots=count) for index, count in enumerate(slots)]


def check(found: MeshPlan, parallel: ParallelSection, given_nodes, stride=1) -> None:
    """What holds for every plan."""
    world = sum(node.slots for node in given_nodes)
    assert found.size == len(found.ranks) == len(set(found.ranks))
    assert sorted(found.ranks + found.spares) == list(range(world))
    assert parallel.tensor % found.tp == 0
    assert found.pp <= parallel.pipeline
    homes = [index for index, node in enumerate(given_nodes) for _ in range(node.slots)]
    for at in range(0, found.size, found.tp):
        group = found.ranks[at : at + found.tp]
        assert group == tuple(range(group[0], group[0] + found.tp))
        if not parallel.tensor_across_nodes:
            assert len({homes[rank] for rank in group}) == 1
    expected = islice(
        product(range(found.pp), range(found.dp_replicate), range(found.dp_shard), range(found.tp)),
        0,
        None,
        stride,
    )
    assert [found.coordinates(rank) for rank in found.ranks[::stride]] == list(expected)
    assert all(found.coordinates(rank) is None for rank in found.spares)


def attempt(parallel, given_nodes, **options):
    """The plan, or the reason why there is none."""
    try:
        return plan(parallel, given_nodes, **options)
    except PlanError as error:
        return error


SECTIONS = [
    ParallelSection(),
    ParallelSection(pipeline=2),
    ParallelSection(tensor=2, pipeline=4),
    ParallelSection(tensor=8),
    ParallelSection(replicate=2),
    ParallelSection(replicate=3, tensor=2),
    ParallelSection(data=4, pipeline=2),
    ParallelSection(tensor=3, tensor_across_nodes=True),
    ParallelSection(tensor=16, pipeline=8, tensor_across_nodes=True),
]


@pytest.mark.parametrize("width", [1, 3, 4, 8])
@pytest.mark.parametrize(
    "parallel", SECTIONS, ids=lambda s: repr(s.model_dump(exclude_defaults=True))
)
def test_every_world_from_1_to_512_gives_a_plan_or_a_reason(parallel, width):
    for world in range(1, 513):
        full, rest = divmod(world, width)
        given_nodes = nodes(*[width] * full, *([rest] if rest else []))
        found = attempt(parallel, given_nodes)
        if isinstance(found, PlanError):
            assert "ranks" in str(found)
            groups = sum(node.slots // parallel.tensor for node in given_nodes)
            if parallel.tensor_across_nodes:
                groups = world // parallel.tensor
            wanted = parallel.replicate if parallel.data == "auto" else parallel.data
            assert groups // parallel.pipeline < wanted
        else:
            check(found, parallel, given_nodes, stride=1 if world < 40 else 37)
            assert (found.tp, found.pp) == (parallel.tensor, parallel.pipeline)
            if parallel.data != "auto":
                assert found.dp == parallel.data
            assert found.dp_replicate == parallel.replicate


sections = st.builds(
    ParallelSection,
    data=st.one_of(st.just("auto"), st.integers(1, 12)),
    replicate=st.just(1),
    tensor=st.sampled_from([1, 2, 3, 4, 6, 8]),
    pipeline=st.integers(1, 8),
    schedule=st.sampled_from(["gpipe", "1f1b", "interleaved1f1b"]),
    tensor_across_nodes=st.booleans(),
)


@settings(deadline=None, max_examples=300)
@given(
    parallel=sections,
    slots=st.lists(st.integers(0, 9), min_size=1, max_size=10),
    pieces=st.one_of(st.none(), st.integers(1, 40)),
    microbatches=st.one_of(st.none(), st.integers(1, 12)),
    replan=st.sampled_from(["none", "data", "pipeline", "tensor"]),
)
def test_any_nodes_give_a_plan_or_a_reason(parallel, slots, pieces, microbatches, replan):
    given_nodes = nodes(*slots)
    found = attempt(parallel, given_nodes, pieces=pieces, microbatches=microbatches, replan=replan)
    if isinstance(found, PlanError):
        assert str(found)
        return
    check(found, parallel, given_nodes)
    assert pieces is None or found.dp <= pieces
    if replan != "tensor":
        assert found.tp == parallel.tensor
    if replan in ("none", "data"):
        assert found.pp == parallel.pipeline


@settings(deadline=None, max_examples=100)
@given(parallel=sections, slots=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_with_everything_allowed_there_is_always_a_mesh(parallel, slots):
    check(plan(parallel, nodes(*slots), replan="tensor"), parallel, nodes(*slots))


def test_the_quickstart():
    found = plan(ParallelSection(pipeline=2), nodes(4))
    assert found.describe() == "dp 2 × pp 2"
    assert found.coordinates(3) == (1, 0, 1, 0)


@pytest.mark.parametrize(
    ("parallel", "slots", "text"),
    [
        ({}, [1], "one rank"),
        ({"tensor": 2, "pipeline": 2}, [8], "dp 2 × tp 2 × pp 2"),
        ({"replicate": 2}, [4, 4], "dp 2×4"),
        ({"tensor": 4}, [4], "tp 4"),
    ],
)
def test_the_mesh_in_words(parallel, slots, text):
    assert plan(ParallelSection(**parallel), nodes(*slots)).describe() == text


@pytest.mark.parametrize(
    ("parallel", "slots", "expected"),
    [
        ({"tensor": 8}, [4, 4], "tensor 8 must lie within a node, and the widest has 4 ranks"),
        ({"data": 5, "pipeline": 2}, [7], "dp 5 × tp 1 × pp 2 needs 10 ranks; 1 node has 7"),
        (
            {"tensor": 3, "data": 2},
            [4, 2],
            "needs 6 ranks in 2 groups of 3; 2 nodes have 6, in 1 group of 3",
        ),
        ({"data": 5}, [3], "the nearest mesh that fits is parallel.data: 3"),
        ({}, [0], "there is no rank to run on"),
    ],
)
def test_refusals_name_the_constraint_and_the_nearest_mesh(parallel, slots, expected):
    with pytest.raises(PlanError) as caught:
        plan(ParallelSection(**parallel), nodes(*slots))
    assert expected in str(caught.value)


def test_more_data_parallel_ranks_than_pieces():
    assert plan(ParallelSection(), nodes(8), pieces=6).dp == 6
    with pytest.raises(PlanError, match="dp 8 needs at least 8 pieces, and there are 6"):
        plan(ParallelSection(data=8), nodes(8), pieces=6)


@pytest.mark.parametrize(
    ("parallel", "slots", "replan", "expected"),
    [
        ({"data": 4}, 3, "data", (1, 3, 1)),
        ({"pipeline": 2}, 3, "data", (2, 1, 1)),
        ({"pipeline": 4}, 3, "pipeline", (3, 1, 1)),
        ({"pipeline": 4, "schedule": "1f1b"}, 2, "pipeline", (2, 1, 1)),
        ({"tensor": 4}, 3, "tensor", (1, 1, 2)),
        ({"tensor": 4, "pipeline": 2}, 6, "tensor", (1, 1, 4)),
        ({"replicate": 2}, 1, "data", (1, 1, 1)),
        ({"replicate": 2}, 5, "data", (1, 4, 1)),
    ],
)
def test_what_is_left_is_planned_anew(parallel, slots, replan, expected):
    found = plan(ParallelSection(**parallel), nodes(slots), replan=replan, microbatches=4)
    assert (found.pp, found.dp, found.tp) == expected


@pytest.mark.parametrize(
    ("parallel", "replan"), [({"pipeline": 4}, "data"), ({"tensor": 4}, "pipeline")]
)
def test_no_further_than_the_job_allows(parallel, replan):
    with pytest.raises(PlanError, match="nearest mesh"):
        plan(ParallelSection(**parallel), nodes(3), replan=replan)


def test_a_pipeline_is_only_replanned_to_what_its_schedule_can_run():
    """Seven microbatches fit one round over four ranks, not three rounds over two."""
    parallel = ParallelSection(pipeline=5, schedule="interleaved1f1b")
    assert plan(parallel, nodes(2), microbatches=7, replan="pipeline").pp == 1
    assert plan(parallel, nodes(2), microbatches=8, replan="pipeline").pp == 2


def test_survivors_fill_the_mesh_in_rank_order():
    found = plan(ParallelSection(tensor=2), nodes(3, 2, 5))
    assert found.ranks == (0, 1, 3, 4, 5, 6, 7, 8)
    assert found.spares == (2, 9)


def test_a_job_bounds_the_mesh_by_its_pieces():
    job = from_mapping(
        {"model": {}, "train": {"pieces": 3}, "elastic": {"nodes": "1:4", "nproc_per_node": 2}}
    )
    assert plan_job(job, nodes(2, 2, 2, 2)).dp == 3
