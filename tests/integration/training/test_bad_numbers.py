"""Steps with bad numbers: all ranks judge alike, on any mesh, and whatever they come back from."""

from __future__ import annotations

import pytest

from tests.integration.training.jobs import mesh, write_job
from tests.workers import Pool, weights

NAN = [{"kind": "nan", "step": 8, "rank": 0}]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with Pool(tmp_path_factory.mktemp("pool")) as pool:
        yield pool


def summary(said) -> dict:
    return said[0][-1]["summary"]


def steps(said) -> list[int]:
    return [message["step"] for message in said[0] if message["type"] == "step"]


def events(said, name: str) -> list[dict]:
    return [message for message in said[0] if message.get("event") == name]


def test_a_rollback_ends_in_the_weights_of_a_skip(pool, tmp_path):
    skip = write_job(tmp_path / "skip", train__steps=12, faults=NAN)
    skipped = pool.train(skip, 1)
    assert summary(skipped)["skipped_steps"] == 1
    assert [event["step"] for event in events(skipped, "step.skipped")] == [8]

    back = write_job(
        tmp_path / "back",
        train__steps=12,
        train__on_bad_numbers="rollback",
        elastic={"mirror_every": 3},
        faults=NAN,
        **mesh(dp=2),
    )
    said = pool.train(back, 2, staging=tmp_path / "staging")
    (event,) = events(said, "state.rolled_back")
    assert (event["step"], event["version"], event["source"]) == (8, 6, "mirror")
    assert steps(said) == [*range(1, 9), *range(7, 13)]
    assert (summary(said)["skipped_steps"], summary(said)["rollbacks"]) == (1, 1)
    assert weights(said) == weights(skipped)


def test_without_anything_to_go_back_to_the_step_is_passed_over(pool, tmp_path):
    job = write_job(
        tmp_path, train__steps=9, train__on_bad_numbers="rollback", faults=NAN, **mesh(dp=1)
    )
    said = pool.train(job, 1)
    assert (summary(said)["skipped_steps"], summary(said)["rollbacks"]) == (1, 0)
    assert steps(said) == list(range(1, 10))


def test_spikes_are_the_same_on_any_mesh_and_after_a_resume(pool, tmp_path):
    spiky = {"train__steps": 20, "train__spike": 1.05}
    alone = pool.train(write_job(tmp_path / "alone", **spiky), 1)
    assert 0 < summary(alone)["skipped_steps"] < 10
    many = pool.train(write_job(tmp_path / "many", **spiky, **mesh(dp=2, pp=2)), 4)
    assert weights(many) == weights(alone)

    kept = {"every": 0, "at_end": True, "directory": str(tmp_path / "checkpoints")}
    first = write_job(tmp_path / "first", **spiky, train__stop_at=14, checkpoint=kept)
    pool.train(first, 1)
    second = write_job(tmp_path / "second", **spiky, checkpoint=kept, **mesh(dp=2))
    rest = pool.train(second, 2)
    assert steps(rest) == list(range(15, 21))
    assert weights(rest) == weights(alone)
    assert summary(rest)["skipped_steps"] == summary(alone)["skipped_steps"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"train__on_bad_numbers": "stop"},
            "step 8: its norm is nan; .* is stop",
        ),
        ({"train__bad_steps": 1}, "the last of 1 bad steps in a row"),
    ],
)
def test_a_job_may_rather_fail(tmp_path, changes, words):
    with Pool(tmp_path / "pool") as pool:
        job = write_job(tmp_path / "job", train__steps=12, faults=NAN, **changes)
        with pytest.raises(AssertionError, match=words) as failure:
            pool.train(job, 1)
        assert "'category': 'final'" in str(failure.value)
