"""Models of people's own, by a factory: built, trained and saved, or refused once and by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.training.jobs import mesh, write_job
from tests.workers import Pool, Workers, weights
from trainer.checkpoint.catalog import find

FACTORIES = Path(__file__).parent / "factories"
EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{FACTORIES}:{EXAMPLES}")
        with Pool(tmp_path_factory.mktemp("pool")) as pool:
            yield pool


def job_of(directory: Path, factory: str, args: dict[str, Any] | None = None, **more: Any) -> Path:
    train = {"steps": 4, "pieces": 4, "microbatches": 2, "clip": 1.0} | more.pop("train", {})
    model = {"factory": f"unusual:{factory}", "args": args or {}}
    return write_job(directory, model=model, train=train, **more)


@pytest.mark.parametrize("factory", ["Asks", "Slopes", "adapted", "Odd", "Whole"])
def test_what_can_not_be_built_without_values_or_cut_evenly(
    pool: Pool, tmp_path: Path, factory: str
) -> None:
    alone = weights(pool.train(job_of(tmp_path / "1", factory), 1))
    assert weights(pool.train(job_of(tmp_path / "3", factory, **mesh(dp=3)), 3)) == alone


@pytest.mark.parametrize("factory", ["decoder", "adapted"])
def test_the_examples_models_are_trained_alike_on_any_mesh(
    pool: Pool, tmp_path: Path, factory: str
) -> None:
    found = set()
    for ranks in (1, 2):
        train = {"steps": 3, "pieces": 2, "microbatches": 1}
        model = {"factory": f"own_model:{factory}"}
        job = write_job(tmp_path / str(ranks), model=model, train=train, **mesh(dp=ranks))
        found.add(weights(pool.train(job, ranks)))
    assert len(found) == 1


def test_what_is_frozen_has_no_moments_and_is_taken_up_as_it_was(
    pool: Pool, tmp_path: Path
) -> None:
    alone = weights(pool.train(job_of(tmp_path / "alone", "adapted"), 1))
    kept = {"every": 0, "at_end": True, "directory": str(tmp_path / "checkpoints")}
    first = job_of(tmp_path / "a", "adapted", train={"stop_at": 2}, checkpoint=kept, **mesh(dp=2))
    pool.train(first, 2)
    names = find(kept["directory"]).manifest.tensors
    moments = {name.rpartition("/")[0] for name in names if name.startswith("optim/")}
    assert moments == {
        f"optim/blocks.{block}.{part}.weight" for block in (0, 1) for part in ("down", "up")
    }
    rest = job_of(tmp_path / "b", "adapted", checkpoint=kept)
    assert weights(pool.train(rest, 1)) == alone


def refusal(job: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a worker of its own says when it is to train the job, and ends."""
    monkeypatch.setenv("PYTHONPATH", str(FACTORIES))
    with Workers(1, job.parent / "workers") as node:
        node.enter(1, job)
        (worker,) = node.workers
        node.until(lambda: worker.last("failed") is not None)
        failed = worker.last("failed")
    assert failed is not None
    assert failed["category"] == "job"
    return str(failed["message"])


REFUSED = {
    "frozen": "nothing can be trained: every parameter of the model is frozen",
    "Scaled": "the parameter scale has no dimension",
    "Empty": "the parameter nothing has no elements",
}


@pytest.mark.parametrize("factory", REFUSED)
def test_what_can_not_be_trained_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    assert REFUSED[factory] in refusal(job_of(tmp_path / "job", factory), monkeypatch)


def test_another_argument_is_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: Pool
) -> None:
    kept = {"every": 0, "at_end": True, "directory": str(tmp_path / "checkpoints")}
    pool.train(job_of(tmp_path / "a", "adapted", {"rank": 2}, checkpoint=kept), 1)
    other = job_of(tmp_path / "b", "adapted", {"rank": 4}, checkpoint=kept)
    assert "args.rank is 2 there and 4 here" in refusal(other, monkeypatch)
