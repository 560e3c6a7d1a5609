"""Dropout keyed by the sample: the same mask on every rank, shard and batch."""

from __future__ import annotations

import pytest
import torch

from trainer.models.dropout import KeyedDropout, keep_mask, layer_keys, set_sequence_offset

SHAPE = torch.Size((4, 64, 96))


def keys_of(seed=0, layer=0, samples=(10, 11, 12, 13)):
    return layer_keys(seed, torch.tensor(samples), [layer])[0]


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_asked(p):
    kept = keep_mask(keys_of(), torch.Size((4, 256, 256)), p, 0, 0).float()
    assert kept.mean().item() == pytest.approx(1 - p, abs=0.005)
    assert (kept.mean(dim=(1, 2)) - (1 - p)).abs().max() < 0.01
    assert (kept.mean(dim=(0, 1)) - (1 - p)).abs().max() < 0.08
    assert (kept.mean(dim=(0, 2)) - (1 - p)).abs().max() < 0.08


def test_neighbours_are_dropped_independently():
    kept = keep_mask(keys_of(), torch.Size((4, 256, 256)), 0.5, 0, 0).float() - 0.5
    for dim in (0, 1, 2):
        both = (kept * kept.roll(1, dims=dim)).mean() * 4
        assert abs(both.item()) < 0.02
    halves = (kept[..., :128] * kept[..., 128:]).mean() * 4
    assert abs(halves.item()) < 0.02


def test_seed_layer_sample_and_site_each_change_the_mask():
    base = keep_mask(keys_of(), SHAPE, 0.5, 0, 0)
    others = [
        keep_mask(keys_of(seed=1), SHAPE, 0.5, 0, 0),
        keep_mask(keys_of(seed=1 << 40), SHAPE, 0.5, 0, 0),
        keep_mask(keys_of(layer=1), SHAPE, 0.5, 0, 0),
        keep_mask(keys_of(samples=(14, 15, 16, 17)), SHAPE, 0.5, 0, 0),
        keep_mask(keys_of(samples=[(1 << 32) + k for k in (10, 11, 12, 13)]), SHAPE, 0.5, 0, 0),
        keep_mask(keys_of(), SHAPE, 0.5, 1, 0),
    ]
    for other in others:
        assert (base == other).float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("shards", [2, 4])
def test_shards_of_the_sequence_draw_the_same_mask(shards):
    whole = keep_mask(keys_of(), SHAPE, 0.3, 0, 0)
    length = 64 // shards
    parts = [
        keep_mask(keys_of(), torch.Size((4, length, 96)), 0.3, 0, rank * length)
        for rank in range(shards)
    ]
    assert torch.equal(torch.cat(parts, dim=1), whole)


def test_a_sample_s_mask_does_not_depend_on_its_batch():
    whole = keep_mask(keys_of(), SHAPE, 0.3, 0, 0)
    alone = keep_mask(keys_of(samples=(12,)), torch.Size((1, 64, 96)), 0.3, 0, 0)
    assert torch.equal(whole[2:3], alone)


def test_layers_are_keyed_by_their_index_in_the_whole_model():
    keys = torch.tensor([1, 2])
    assert torch.equal(layer_keys(3, keys, [0, 1, 2, 3])[2:], layer_keys(3, keys, [2, 3]))


def test_keys_stay_below_what_could_overflow():
    keys = layer_keys(2**63 - 1, torch.tensor([0, 2**62, 2**63 - 1]), [0, 500])
    assert keys.min() >= 0
    assert keys.max() < 2**32


def test_an_odd_number_of_channels():
    assert keep_mask(keys_of(), torch.Size((4, 3, 7)), 0.5, 0, 0).shape == (4, 3, 7)


def test_what_stays_is_scaled_and_keeps_its_type():
    module = KeyedDropout(0.25, site=0)
    values = torch.ones(SHAPE, dtype=torch.bfloat16)
    out = module(values, keys_of())
    assert out.dtype == torch.bfloat16
    assert set(out.unique().tolist()) == {0.0, torch.tensor(4 / 3, dtype=torch.bfloat16).item()}


def test_nothing_is_done_without_training_or_rate():
    values = torch.ones(SHAPE)
    assert KeyedDropout(0.5, site=0).eval()(values, None) is values
    assert KeyedDropout(0.0, site=0)(values, None) is values
    with pytest.raises(ValueError, match="needs the samples' keys"):
        KeyedDropout(0.5, site=0)(values, None)


def test_the_offset_reaches_every_dropout():
    model = torch.nn.Sequential(
        KeyedDropout(0.5, 0), torch.nn.ModuleDict({"a": KeyedDropout(0.5, 1)})
    )
    set_sequence_offset(model, 32)
    assert [m.sequence_offset for m in model.modules() if isinstance(m, KeyedDropout)] == [32, 32]
