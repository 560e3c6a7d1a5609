"""Which layers lie on which stage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.job import PRESETS
from trainer.mesh import decoder_stages, stage_layers


@given(data=st.data(), layers=st.integers(1, 200), weight=st.floats(0, 10))
def test_stages_are_runs_without_gaps_and_none_is_empty(data, layers, weight):
    count = data.draw(st.integers(1, layers))
    stages = stage_layers(layers, count, first_weight=weight / 2, last_weight=weight)
    assert [layer for stage in stages for layer in stage] == list(range(layers))
    assert len(stages) == count
    assert all(stages)


@given(data=st.data(), layers=st.integers(1, 200))
def test_without_embedding_and_head_stages_differ_by_one_layer(data, layers):
    count = data.draw(st.integers(1, layers))
    sizes = [len(stage) for stage in stage_layers(layers, count)]
    assert max(sizes) - min(sizes) <= 1 + (count > 2)


def test_a_heavy_head_leaves_the_last_stage_fewer_layers():
    assert [len(s) for s in stage_layers(16, 4, first_weight=1, last_weight=2)] == [4, 4, 5, 3]
    assert [len(s) for s in decoder_stages(PRESETS["405b"], 16)][-1] < 8


def test_more_stages_than_layers():
    with pytest.raises(ValueError, match="3 layers can't fill 4 stages"):
        stage_layers(3, 4)
