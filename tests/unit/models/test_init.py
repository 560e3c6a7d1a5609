"""Initial weights: keyed by (seed, name), and the same bits however they are cut."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.models import InitRule, initial_value
from trainer.models.llama import decoder_init_rule

NORMAL = InitRule("normal", 1.0)


@st.composite
def shapes_and_boxes(draw):
    shape = draw(st.lists(st.integers(0, 9), max_size=4))
    offsets = [draw(st.integers(0, size)) for size in shape]
    sizes = [draw(st.integers(0, size - at)) for size, at in zip(shape, offsets, strict=True)]
    return shape, offsets, sizes


@settings(deadline=None)
@given(case=shapes_and_boxes())
def test_a_box_has_the_bits_of_the_whole(case):
    shape, offsets, sizes = case
    whole = initial_value(NORMAL, "w", shape, 3)
    part = initial_value(NORMAL, "w", shape, 3, (offsets, sizes))
    assert whole.shape == torch.Size(shape)
    for dim, (at, size) in enumerate(zip(offsets, sizes, strict=True)):
        whole = whole.narrow(dim, at, size)
    assert torch.equal(part, whole)


@pytest.mark.parametrize("shape", [(200_000,), (3, 70_000), (70_000, 3), (2, 300, 400)])
def test_boxes_longer_than_a_chunk(shape):
    whole = initial_value(NORMAL, "w", shape, 0)
    offsets, sizes = [1] * len(shape), [size - 1 for size in shape]
    part = initial_value(NORMAL, "w", shape, 0, (offsets, sizes))
    assert torch.equal(part, whole[tuple(slice(1, None) for _ in shape)])


def test_values_are_bell_shaped():
    value = initial_value(InitRule("normal", 0.02), "w", (1000, 1000), 0) / 0.02
    assert value.mean().item() == pytest.approx(0, abs=0.005)
    assert value.std().item() == pytest.approx(1, abs=0.005)
    assert value.abs().max() < 4.9
    assert (value.abs() < 1).float().mean().item() == pytest.approx(0.683, abs=0.01)
    assert (value.abs() < 2).float().mean().item() == pytest.approx(0.954, abs=0.005)


def test_name_and_seed_each_change_the_values():
    a = initial_value(NORMAL, "a", (100, 100), 0).flatten()
    for other in (
        initial_value(NORMAL, "b", (100, 100), 0),
        initial_value(NORMAL, "a", (100, 100), 1),
    ):
        assert abs(torch.corrcoef(torch.stack((a, other.flatten())))[0, 1].item()) < 0.05


def test_these_bits_are_for_good():
    """A checkpoint's run can be repeated only if a later version starts from the same weights."""
    value = initial_value(NORMAL, "layers.0.attention.wq.weight", (64, 64), 7)
    digest = hashlib.sha256(value.numpy().tobytes()).hexdigest()
    assert digest == "56662f99a2b831b5ba98ad0c366d49908957184a73807f69e5208ac1852a7928"


def test_constants_and_given_values():
    assert torch.equal(initial_value(InitRule("constant", 1.0), "n", (5,), 0), torch.ones(5))
    given_value = torch.arange(12.0).reshape(3, 4)
    rule = InitRule("given", given=lambda: given_value)
    assert torch.equal(initial_value(rule, "g", (3, 4), 0, ((1, 1), (2, 2))), given_value[1:, 1:3])
    assert torch.equal(initial_value(rule, "g", (3, 4), 0), given_value)


def test_the_decoder_s_rules():
    assert decoder_init_rule("layers.3.attention_norm.weight", 8) == InitRule("constant", 1.0)
    assert decoder_init_rule("norm.weight", 8) == InitRule("constant", 1.0)
    assert decoder_init_rule("layers.3.attention.wo.weight", 8).scale == pytest.approx(0.005)
    assert decoder_init_rule("layers.3.attention.wq.weight", 8).scale == 0.02
