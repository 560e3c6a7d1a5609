"""Dropout keyed by the sample: the same mask on every rank, shard and batch."""

from __future__ import annotations

import pytest
import torch

from trainer.models.dropout import KeyedDropout, column_codes, keep_mask, row_codes

SAMPLES = (10, 11, 12, 13)


def rows(seed=0, layer=0, site=0, samples=SAMPLES, offset=0, length=64):
    codes = row_codes(seed, torch.tensor(samples), [layer], offset=offset, length=length)
    return codes[0, site]


def mask(p=0.5, channels=96, **of):
    return keep_mask(rows(**of), column_codes(channels, torch.device("cpu")), p)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_asked(p):
    kept = mask(p, channels=256, length=256).float()
    assert kept.mean().item() == pytest.approx(1 - p, abs=0.005)
    assert (kept.mean(dim=(1, 2)) - (1 - p)).abs().max() < 0.01
    assert (kept.mean(dim=(0, 1)) - (1 - p)).abs().max() < 0.08
    assert (kept.mean(dim=(0, 2)) - (1 - p)).abs().max() < 0.08


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_elements_are_dropped_independently(p):
    """Any two rows, and any two columns, agree as often as chance has them agree."""
    kept = mask(p, channels=512, samples=range(4), length=128).float().flatten(0, 1) - (1 - p)
    kept /= (p * (1 - p)) ** 0.5
    for table in (kept, kept.T):
        correlation = table @ table.T / table.shape[1]
        correlation.fill_diagonal_(0)
        assert correlation.abs().max() < 0.35
        assert correlation.square().mean() * table.shape[1] == pytest.approx(1, abs=0.15)


def test_seed_layer_sample_and_site_each_change_the_mask():
    base = mask()
    others = [
        mask(seed=1),
        mask(seed=1 << 40),
        mask(layer=1),
        mask(samples=(14, 15, 16, 17)),
        mask(samples=[(1 << 32) + key for key in SAMPLES]),
        mask(site=1),
        mask(offset=64),
    ]
    for other in others:
        assert (base == other).float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("shards", [2, 4])
def test_shards_of_the_sequence_draw_the_same_mask(shards):
    length = 64 // shards
    parts = [mask(offset=rank * length, length=length) for rank in range(shards)]
    assert torch.equal(torch.cat(parts, dim=1), mask())


def test_a_sample_s_mask_does_not_depend_on_its_batch():
    assert torch.equal(mask(samples=(12,)), mask()[2:3])


def test_layers_are_keyed_by_their_index_in_the_whole_model():
    keys = torch.tensor([1, 2])
    whole = row_codes(3, keys, [0, 1, 2, 3], offset=0, length=5)
    assert torch.equal(row_codes(3, keys, [2, 3], offset=0, length=5), whole[2:])


def test_codes_stay_below_what_could_overflow():
    keys = torch.tensor([0, 2**62, 2**63 - 1])
    codes = row_codes(2**63 - 1, keys, [0, 500], offset=10**6, length=100)
    assert codes.min() >= 0
    assert codes.max() < 2**32


def module_of(p):
    module = KeyedDropout(p, 96)
    module.columns = column_codes(96, torch.device("cpu"))
    return module


def test_what_stays_is_scaled_and_keeps_its_type():
    values = torch.ones(4, 64, 96, dtype=torch.bfloat16)
    out = module_of(0.25)(values, rows())
    assert out.dtype == torch.bfloat16
    assert set(out.unique().tolist()) == {0.0, torch.tensor(4 / 3, dtype=torch.bfloat16).item()}


def test_nothing_is_done_without_training_or_rate():
    values = torch.ones(4, 64, 96)
    assert module_of(0.5).eval()(values, None) is values
    assert module_of(0.0)(values, None) is values
    with pytest.raises(ValueError, match="needs the samples' keys"):
        module_of(0.5)(values, None)


def test_the_mask_is_for_good():
    """A resumed run continues with the masks of the version that began it."""
    assert mask(length=3, channels=4, samples=(5,)).int().flatten().tolist() == [
        1,
        0,
        1,
        0,
        0,
        0,
        1,
        1,
        1,
        0,
        0,
        1,
    ]
