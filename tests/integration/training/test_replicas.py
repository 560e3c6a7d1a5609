"""Jobs whose ranks don't train one model end by name, before anything of it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.training.jobs import mesh, write_job
from tests.workers import Workers


@pytest.mark.parametrize(
    ("factory", "where", "said"),
    [
        ("begun_by_rank", {"dp": 2}, "body.2.bias begins otherwise on rank 1 than on rank 0"),
        (
            "updated_by_rank",
            {"dp": 2, "replicate": 2},
            "model/table.weight differs between ranks 0 and 1 after step 1",
        ),
    ],
)
def test_a_factory_that_knows_the_rank_is_refused(
    tmp_path: Path, factory: str, where: dict[str, int], said: str
) -> None:
    job = write_job(
        tmp_path,
        model={"factory": f"tests.integration.training.models_of_ranks:{factory}"},
        elastic={"mirror_every": 1},
        **mesh(**where),
    )
    staging = tmp_path / "staging"
    with Workers(2, tmp_path / "logs") as node:
        node.enter(1, job, run_directory=tmp_path, staging=staging)
        node.until(lambda: all(worker.last("failed") for worker in node.workers))
        for worker in node.workers:
            failed = worker.last("failed")
            assert failed is not None
            assert failed["category"] == "final"
            assert failed["message"].startswith(said)
            assert "depend on the rank" in failed["message"]
            assert worker.last("staged") is None
