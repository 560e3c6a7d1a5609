"""A checkpoint of one mesh is taken up by another.

1. Each mesh of the quickstart trains 3 of 6 steps, saves and stops.
2. Each is taken up by the next mesh in the ring, which trains the rest.
3. Where tp is 1 on both sides the weights are those of an undisturbed run, to the bit; with any
   tp the losses agree within 1e-5.
"""

from __future__ import annotations

import math

import pytest

from tests.integration.training.jobs import mesh, write_job
from tests.workers import Pool, weights

STEPS, STOP = 6, 3
MESHES = {
    "dp 4": mesh(dp=4),
    "dp 2 tp 2": mesh(dp=2, tp=2),
    "dp 2 pp 2": mesh(dp=2, pp=2),
    "tp 2 pp 2": mesh(tp=2, pp=2),
    "dp 2 tp 2 pp 2": mesh(dp=2, tp=2, pp=2),
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with Pool(tmp_path_factory.mktemp("pool")) as pool:
        yield pool


@pytest.fixture(scope="module")
def undisturbed(pool, tmp_path_factory):
    said = pool.train(write_job(tmp_path_factory.mktemp("alone"), train__steps=STEPS), 1)
    return weights(said), losses(said)


def losses(said) -> list[float]:
    return [message["loss"] for message in said[0] if message["type"] == "step"]


def ranks(plan) -> int:
    return math.prod(plan.values())


@pytest.mark.parametrize("first", list(MESHES))
def test_the_next_mesh_goes_on(pool, tmp_path, undisturbed, first):
    names = list(MESHES)
    second = names[(names.index(first) + 1) % len(names)]
    shared = {
        "train__steps": STEPS,
        "checkpoint": {"every": 0, "at_end": True, "directory": str(tmp_path / "checkpoints")},
    }
    begin = write_job(tmp_path / "first", **MESHES[first], **shared, train__stop_at=STOP)
    said = pool.train(begin, ranks(MESHES[first]))
    assert said[0][-1]["status"] == "stopped"
    assert said[0][-1]["summary"]["steps"] == STOP

    rest = pool.train(
        write_job(tmp_path / "second", **MESHES[second], **shared), ranks(MESHES[second])
    )
    entered = next(message for message in rest[0] if message["type"] == "entered")
    assert (entered["source"], entered["version"]) == ("storage", STOP)
    assert rest[0][-1]["status"] == "completed"
    sha, expected = undisturbed
    assert losses(said) + losses(rest) == pytest.approx(expected, rel=1e-5)
    if MESHES[first]["parallel__tensor"] == MESHES[second]["parallel__tensor"] == 1:
        assert weights(rest) == sha


def test_another_models_checkpoint_is_refused(pool, tmp_path):
    directory = {"every": 0, "at_end": True, "directory": str(tmp_path / "checkpoints")}
    pool.train(write_job(tmp_path / "a", train__steps=1, checkpoint=directory), 1)
    wider = {"preset": "debug", "dim": 64, "layers": 4, "heads": 4, "kv_heads": 2}
    with pytest.raises(AssertionError, match=r"'category': 'job'.*another model|dim"):
        pool.train(write_job(tmp_path / "b", train__steps=1, checkpoint=directory, model=wider), 1)
