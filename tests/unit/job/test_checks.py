"""What the sections of a job must agree on; each refusal says how to mend it."""

from __future__ import annotations

import pytest

from trainer.errors import JobError
from trainer.job import from_mapping
from trainer.job.checks import microbatch_problem
from trainer.job.parallel import ParallelSection


def refusal(**sections):
    with pytest.raises(JobError) as caught:
        from_mapping({"model": {}, **sections})
    return str(caught.value)


@pytest.mark.parametrize("schedule", ["zbv", "interleaved-zero-bubble"])
def test_zero_bubble_schedules_do_not_compile(schedule):
    text = refusal(
        parallel={"schedule": schedule, "pipeline": 2},
        train={"microbatches": 4},
        compile={"enabled": True},
    )
    assert "parallel.schedule" in text
    assert "use interleaved1f1b or compile.enabled: false" in text


@pytest.mark.parametrize(
    ("model", "tensor", "expected"),
    [
        ({"heads": 6, "kv_heads": 2, "dim": 96}, 4, "model.heads = 6 does not divide by tensor"),
        ({"heads": 8, "kv_heads": 2}, 4, "model.kv_heads = 2 does not divide by tensor = 4"),
        ({"heads": 8, "kv_heads": 8, "ffn_dim": 130}, 4, "model.ffn_dim = 130"),
        ({"vocab": 257}, 2, "model.vocab = 257"),
        ({"tied": True}, 2, "set model.tied: false or tensor: 1"),
    ],
)
def test_a_model_that_can_not_be_cut_by_tensor(model, tensor, expected):
    assert expected in refusal(model=model, parallel={"tensor": tensor})


def test_the_nearest_tensor_size_is_named():
    assert "use tensor: 2" in refusal(model={"heads": 4, "kv_heads": 4}, parallel={"tensor": 3})


def test_a_sequence_that_can_not_be_cut():
    assert "data.seq_len = 33" in refusal(data={"seq_len": 33}, parallel={"tensor": 2})
    job = from_mapping(
        {
            "model": {},
            "data": {"seq_len": 33},
            "parallel": {"tensor": 2, "sequence_parallel": False},
        }
    )
    assert job.parallel.tensor == 2


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"dim": 100, "heads": 3, "kv_heads": 3}, "a width of 100 does not divide by 3 heads"),
        ({"dim": 12, "heads": 4}, "heads of 3 channels can't be rotated in pairs"),
        ({"heads": 4, "kv_heads": 3}, "4 heads do not divide by 3 key and value heads"),
    ],
)
def test_a_model_that_has_no_shape(model, expected):
    assert expected in refusal(model=model)


def test_pipelines_longer_than_the_model():
    text = refusal(parallel={"pipeline": 8}, train={"microbatches": 8})
    assert "4 layers can't fill 8 pipeline stages; use at most pipeline: 4" in text
    text = refusal(
        parallel={"pipeline": 4, "schedule": "interleaved1f1b"}, train={"microbatches": 8}
    )
    assert "use at most pipeline: 2" in text


def test_a_tied_head_keeps_the_model_on_one_stage():
    text = refusal(model={"tied": True}, parallel={"pipeline": 2}, train={"microbatches": 2})
    assert "set model.tied: false or pipeline: 1" in text


@pytest.mark.parametrize(
    ("schedule", "microbatches", "ranks", "trouble"),
    [
        ("1f1b", 3, 4, "at least 4 microbatches"),
        ("1f1b", 4, 4, None),
        ("gpipe", 1, 4, None),
        ("interleaved1f1b", 7, 2, "a multiple of 2 microbatches"),
        ("interleaved1f1b", 3, 4, None),
        ("interleaved-zero-bubble", 6, 2, None),
        ("interleaved-zero-bubble", 9, 4, "use 8 or 12"),
        ("zbv", 1, 2, None),
    ],
)
def test_microbatches_of_a_schedule(schedule, microbatches, ranks, trouble):
    section = ParallelSection(schedule=schedule, pipeline=ranks)
    text = microbatch_problem(section, microbatches, ranks)
    assert (trouble is None) == (text is None)
    assert trouble is None or trouble in text


def test_stages_per_rank_must_suit_the_schedule():
    train = {"microbatches": 4}
    for schedule, stages in (("1f1b", 2), ("gpipe", 2), ("zbv", 1)):
        text = refusal(
            parallel={"pipeline": 2, "schedule": schedule, "stages_per_rank": stages}, train=train
        )
        assert "parallel.stages_per_rank" in text


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ({"steps": 10, "stop_at": 11}, "train.stop_at"),
        ({"steps": 10, "schedule": {"warmup": 11}}, "train.schedule.warmup"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, "1.0 is not within [0, 1)"),
        ({"pieces": 0}, "0 is too few; use auto or at least 1"),
        (
            {"batch": 50, "pieces": 12, "microbatches": 4},
            "a batch of 50 does not divide by 12 pieces of 4 microbatches; use 48 or 96",
        ),
        ({"batch": 5, "pieces": 12}, "use 12"),
        (
            {"batch": 24, "pieces": 12, "microbatch_size": 3},
            "12 pieces × 1 microbatches × 3 are not the batch of 24",
        ),
        ({"batch": 7, "microbatches": 2}, "7 does not divide by 2 microbatches"),
    ],
)
def test_counts_that_do_not_fit(train, expected):
    assert expected in refusal(train=train)


def test_data_parallel_ranks_need_pieces_and_whole_replicas():
    assert "use at least 4 pieces" in refusal(train={"pieces": 2}, parallel={"data": 4})
    assert "make parallel.data a multiple of 2" in refusal(parallel={"data": 3, "replicate": 2})


@pytest.mark.parametrize(
    ("elastic", "expected"),
    [
        ({"reconnect_grace": "2s"}, "elastic.reconnect_grace: 2 s is longer than"),
        ({"beat_timeout": "1h"}, "raise elastic.collective_timeout"),
        ({"last_call": "11m"}, "elastic.last_call"),
        ({"hang_timeout": "20m"}, "elastic.hang_timeout"),
        ({"nproc_per_node": 0}, "use auto or at least 1"),
        ({"standby_per_node": -1}, "use auto or at least 0"),
        ({"probe": {"command": ["x"], "file": "y"}}, "give a command or a file, not both"),
    ],
)
def test_patience_has_an_order(elastic, expected):
    assert expected in refusal(elastic=elastic)


def test_an_entrypoint_stands_alone():
    for section in ("model", "data", "train", "parallel", "compile", "checkpoint"):
        with pytest.raises(JobError, match=f"remove `{section}` or `entrypoint`"):
            from_mapping({"entrypoint": {"script": "x.py"}, section: {}})
    for forms in ({}, {"script": "x.py", "module": "x"}):
        with pytest.raises(JobError, match="give exactly one of script, module and command"):
            from_mapping({"entrypoint": forms})


def test_a_factory_s_model_is_not_judged_by_the_preset():
    job = from_mapping({"model": {"factory": "pkg.models:make"}, "parallel": {"tensor": 3}})
    assert job.model.factory == "pkg.models:make"


@pytest.mark.parametrize(
    ("sections", "pieces"),
    [
        ({"train": {"pieces": 12}}, 12),
        ({"parallel": {"data": 6}}, 6),
        ({"elastic": {"nodes": "1:4", "nproc_per_node": 8}}, 32),
        ({"elastic": {"nodes": "1:4", "nproc_per_node": 6}, "parallel": {"tensor": 4}}, 4),
        (
            {
                "elastic": {"nodes": "1:4", "nproc_per_node": 6},
                "parallel": {"tensor": 4, "tensor_across_nodes": True},
            },
            6,
        ),
        (
            {
                "elastic": {"nodes": 2, "nproc_per_node": 8},
                "parallel": {"pipeline": 4},
                "train": {"microbatches": 4},
            },
            4,
        ),
    ],
)
def test_pieces_are_the_largest_data_parallel_size_that_the_job_allows(sections, pieces):
    heads = {"heads": 8, "kv_heads": 4}
    assert from_mapping({"model": heads, **sections}).pieces() == pieces


def test_pieces_that_follow_from_slots_yet_unknown():
    job = from_mapping({"model": {}, "elastic": {"nodes": 2}})
    assert job.pieces(4) == 8
    with pytest.raises(JobError, match="make one of them a number"):
        job.pieces()


def test_a_batch_that_does_not_divide_by_the_pieces_that_follow():
    job = from_mapping({"model": {}, "train": {"batch": 30}, "elastic": {"nproc_per_node": 4}})
    with pytest.raises(JobError, match="a batch of 30 does not divide by 4 pieces"):
        job.pieces()
