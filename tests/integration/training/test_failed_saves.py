"""A save that fails is told, and costs neither the run nor a later save."""

from __future__ import annotations

from pathlib import Path

from tests.integration.training.jobs import write_job
from tests.workers import Workers
from trainer.checkpoint import log
from trainer.checkpoint.manifest import Summary
from trainer.checkpoint.store import LocalStore


def test_a_run_goes_on_where_its_checkpoints_can_not_be_written(tmp_path: Path) -> None:
    """1. a file lies where the data are to go: each save fails, and all steps are done; 2. it is
    gone: the next generation starts anew, as there is no checkpoint, and saves."""
    job = write_job(tmp_path, train__steps=4, checkpoint={"every": 2, "at_end": True})
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "data").write_text("in the way")
    with Workers(2, tmp_path / "workers") as node:
        node.enter(1, job, run_directory=tmp_path)
        node.until(lambda: all(worker.last("finished") for worker in node.workers))
        told = [
            (said["version"], said["error"])
            for said in node.workers[0].said
            if said.get("event") == "checkpoint.failed"
        ]
        assert [version for version, _ in told] == [2, 4]
        assert all("data" in error for _, error in told)
        assert committed(checkpoints) == []
        (checkpoints / "data").unlink()
        for worker in node.workers:
            worker.said.clear()
        node.enter(2, job, run_directory=tmp_path)
        node.until(lambda: all(worker.last("finished") for worker in node.workers))
    assert committed(checkpoints)[0] == 4


def committed(checkpoints: Path) -> list[int]:
    """Versions, newest first."""
    found = log.summaries(LocalStore(checkpoints))
    return [summary.version for _, summary in found if isinstance(summary, Summary)]
