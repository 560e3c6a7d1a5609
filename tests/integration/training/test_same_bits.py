"""Every mesh trains the same model: one hash of the weights, whatever dp and pp.

1. One rank trains 20 steps with clipping and dropout on.
2. Every other mesh of up to 8 ranks trains the same job.
3. All hashes are equal; with another tp, the losses agree within 1e-5.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.integration.training.jobs import mesh, write_job
from tests.workers import Pool, weights

MESHES = [(dp, pp) for dp in (1, 2, 3, 4) for pp in (1, 2, 4) if 1 < dp * pp <= 8]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with Pool(tmp_path_factory.mktemp("pool")) as pool:
        yield pool


@pytest.fixture(scope="module")
def alone(pool, tmp_path_factory) -> str:
    return weights(pool.train(write_job(tmp_path_factory.mktemp("alone")), 1))


def hash_of(pool: Pool, directory: Path, ranks: int, **overrides) -> str:
    return weights(pool.train(write_job(directory, **overrides), ranks))


@pytest.mark.parametrize(("dp", "pp"), MESHES)
def test_every_mesh_gives_one_hash(pool, tmp_path, alone, dp, pp):
    assert hash_of(pool, tmp_path, dp * pp, **mesh(dp=dp, pp=pp)) == alone


def test_replicas_give_the_same_hash(pool, tmp_path, alone):
    assert hash_of(pool, tmp_path / "shards", 4, **mesh(dp=4, replicate=2)) == alone
    assert hash_of(pool, tmp_path / "whole", 3, **mesh(dp=3, replicate=3)) == alone


@pytest.mark.parametrize("schedule", ["gpipe", "interleaved1f1b", "interleaved-zero-bubble", "zbv"])
def test_the_schedule_does_not_change_the_bits(pool, tmp_path, alone, schedule):
    assert hash_of(pool, tmp_path, 2, **mesh(pp=2), parallel__schedule=schedule) == alone


@pytest.mark.parametrize("policy", ["selective", "full"])
def test_recomputing_activations_does_not_change_the_bits(pool, tmp_path, alone, policy):
    plan = {**mesh(dp=2), "parallel__activation_checkpoint": policy}
    assert hash_of(pool, tmp_path, 2, **plan) == alone


def test_compiled_meshes_give_one_hash_among_themselves(pool, tmp_path):
    hashes = {
        hash_of(
            pool,
            tmp_path / f"{dp}-{pp}",
            dp * pp,
            compile={"enabled": True},
            **mesh(dp=dp, pp=pp),
        )
        for dp, pp in ((1, 1), (3, 1), (2, 2))
    }
    assert len(hashes) == 1


def losses(pool: Pool, directory: Path, ranks: int, **overrides) -> list[float]:
    said = pool.train(write_job(directory, **overrides), ranks)
    return [message["loss"] for message in said[0] if message["type"] == "step"]


@pytest.mark.parametrize(
    "plan",
    [
        mesh(tp=2),
        mesh(dp=2, tp=2),
        mesh(pp=2, tp=2),
        {**mesh(tp=2), "parallel__sequence_parallel": False},
    ],
    ids=["tp2", "dp2 tp2", "pp2 tp2", "tp2 without sequence parallel"],
)
def test_tensor_parallel_losses_agree(pool, tmp_path, plan):
    ranks = math.prod(value for value in plan.values() if value is not False)
    alone = losses(pool, tmp_path / "alone", 1)
    assert losses(pool, tmp_path / "cut", ranks, **plan) == pytest.approx(alone, rel=1e-5)
