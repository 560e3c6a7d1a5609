"""A run that ends, and whose last checkpoint has failed: nobody may take it for done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainer
from tests.integration.launcher.crew import job
from tests.integration.launcher.launching import REMESH, Launcher, wait_for
from tests.integration.training.test_own_loop_alone import Loop
from tests.small_disks import needs_small_disks, on_small_disks
from trainer.errors import CheckpointError
from trainer.telemetry.files import read_json, read_lines


def write(launcher: Launcher, **sections: dict) -> list[str]:
    """A job of one node, and the command that runs it."""
    import yaml

    described = job(elastic={"nodes": "1"}, run={"id": "r"}, **sections)
    (launcher.folder / "job.yaml").write_text(yaml.safe_dump(described))
    return [*REMESH, "run", "job.yaml"]


@needs_small_disks
def test_shared_memory_as_small_as_a_containers(launcher: Launcher) -> None:
    """1. /dev/shm has no room for one slot of four: that is said at the start; 2. every save fails,
    also the last: exit code 1, and a last line with the cause, the mend and the way on; 3. the
    audit does not call that sound."""
    command = write(launcher, train={"steps": 4}, checkpoint={"every": 2})
    small = on_small_disks(command, {Path("/dev/shm"): "3m"})
    ended = launcher.end(launcher.start(small))
    assert ended.code == 1, ended.err
    assert "staging takes 34 MB of shared memory on this node, and /dev/shm has 3 MB" in ended.out
    last = ended.err.splitlines()[-1]
    assert last.startswith("remesh: failed: 4 steps are done, but version 4 is not saved: no room")
    for words in ("--shm-size", "there is no checkpoint", "to go on: ", "run job.yaml"):
        assert words in last
    root = launcher.folder / "runs" / "r"
    events = list(read_lines(root / "events.jsonl"))
    failed = [event["version"] for event in events if event["event"] == "checkpoint.failed"]
    assert failed == [2, 4]
    assert any(event["event"] == "staging.short" for event in events)
    summary = read_json(root / "summary.json")
    assert summary is not None
    assert (summary["status"], summary["steps"]) == ("failed", 4)
    assert summary["weights_sha256"], "the training itself is sound"
    audit = launcher([*REMESH, "audit", "r"])
    assert audit.code == 1
    assert "version 4 is not saved" in audit.out


def test_a_drain_that_can_not_save_says_what_is_lost(launcher: Launcher) -> None:
    """A file lies where its data are to go."""
    process = launcher.start(write(launcher, train={"steps": 400}, checkpoint={"every": 0}))
    root = launcher.folder / "runs" / "r"
    wait_for(lambda: len(list(read_lines(root / "metrics.jsonl"))) >= 3, "three steps are done")
    (root / "checkpoints" / "data").write_text("in the way")
    process.send_signal(signal.SIGTERM)
    ended = launcher.end(process)
    assert ended.code == 75, ended.err
    last = ended.err.splitlines()[-1]
    assert last.startswith("remesh: left: SIGTERM at ")
    assert "is not saved" in last
    assert "; there is no checkpoint; to go on: " in last


def test_a_loop_without_an_agent_raises_it(tmp_path: Path) -> None:
    """Only the last save counts: one that fails on the way is made up for by the next."""
    data = tmp_path / "data"

    class Blocked(Loop):
        def __call__(self, run: trainer.Run) -> None:
            data.write_text("in the way")
            super().__call__(run)

    class FreedOnTheWay(Blocked):
        def __call__(self, run: trainer.Run) -> None:
            steps = run.steps

            def counted(total: int) -> Iterator[int]:
                for step in steps(total):
                    if step == 3:
                        data.unlink()
                    yield step

            run.steps = counted  # type: ignore[method-assign]
            super().__call__(run)

    with pytest.raises(CheckpointError, match=r"version 4 is not saved.*there is no checkpoint"):
        trainer.elastic(Blocked(4), checkpoints=str(tmp_path), every=2)
    trainer.elastic(FreedOnTheWay(4), checkpoints=str(tmp_path), every=2)
