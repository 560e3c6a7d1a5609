"""Values with a syntax of their own, and what follows from a section's keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trainer.job import PRESETS, ElasticSection, ModelSection, ParallelSection, TrainSection
from trainer.job.section import seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("30s", 30), ("5m", 300), ("1.5h", 5400), ("200ms", 0.2), ("2 d", 172800), ("7", 7), (3, 3)],
)
def test_durations(text, value):
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "-3s", "5 x", "1e3s", -1, float("inf"), None, True])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError):
        seconds(text)


@pytest.mark.parametrize(
    ("nodes", "low", "high"), [("2", 2, 2), (3, 3, 3), ("1:4", 1, 4), (" 2:2 ", 2, 2)]
)
def test_nodes(nodes, low, high):
    section = ElasticSection(nodes=nodes)
    assert (section.min_nodes, section.max_nodes) == (low, high)


@pytest.mark.parametrize("nodes", ["0", "4:2", "a", "1:2:3", "-1", True, 1.5, "0:3"])
def test_what_is_no_number_of_nodes(nodes):
    with pytest.raises(ValidationError):
        ElasticSection(nodes=nodes)


def test_sections_are_frozen():
    section = TrainSection()
    with pytest.raises(ValidationError):
        section.steps = 3


def test_presets_have_the_published_numbers_of_parameters():
    assert PRESETS["1b"].parameters == 1_235_814_400
    assert PRESETS["8b"].parameters == 8_030_261_248
    assert PRESETS["70b"].parameters == 70_553_706_496
    assert PRESETS["405b"].parameters == 405_853_388_800


def test_small_presets_have_about_the_promised_size():
    assert 0.8e6 < PRESETS["debug"].parameters < 1.3e6
    assert 8e6 < PRESETS["small"].parameters < 12e6


def test_sizes_follow_the_overrides():
    sizes = ModelSection(preset="8b", dim=2048, layers=3, heads=16, dropout=0.1).sizes()
    assert (sizes.dim, sizes.layers, sizes.heads, sizes.kv_heads) == (2048, 3, 16, 8)
    assert sizes.ffn_dim == 7168
    assert sizes.dropout == 0.1
    assert ModelSection(preset="debug", heads=1).sizes().kv_heads == 1


@given(dim=st.integers(1, 4096), multiple=st.integers(1, 512))
def test_the_feed_forward_width_keeps_its_proportion(dim, multiple):
    sizes = ModelSection(preset="debug", dim=dim, ffn_multiple=multiple).sizes()
    assert sizes.ffn_dim % multiple == 0
    assert 0 <= sizes.ffn_dim - 4 * dim < multiple


@pytest.mark.parametrize(
    ("section", "stages"),
    [
        ({"pipeline": 2}, 1),
        ({"pipeline": 2, "schedule": "zbv"}, 2),
        ({"pipeline": 1, "schedule": "zbv"}, 1),
        ({"pipeline": 2, "schedule": "interleaved1f1b", "stages_per_rank": 3}, 3),
    ],
)
def test_stages_of_a_rank(section, stages):
    assert ParallelSection(**section).virtual_stages == stages


@given(pieces=st.integers(1, 64), microbatches=st.integers(1, 16), size=st.integers(1, 8))
def test_a_batch_and_its_portions_agree(pieces, microbatches, size):
    batch = pieces * microbatches * size
    section = TrainSection(microbatches=microbatches, batch=batch)
    assert section.samples_per_microbatch(pieces) == size
