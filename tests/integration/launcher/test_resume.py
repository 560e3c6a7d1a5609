"""The same command again goes on with what it began; so does `remesh resume`, from anywhere."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

import psutil
import pytest

from tests.integration.launcher.launching import REMESH, Ended, Launcher, wait_for
from trainer.telemetry.files import read_json
from trainer.telemetry.runs import last_metrics

JOB = """\
name: again
model: {preset: debug}
train: {steps: 40, pieces: 1}
elastic: {nproc_per_node: 1, mirror_every: 0}
checkpoint: {every: 5}
compile: {enabled: false}
"""


@pytest.fixture
def job(launcher: Launcher) -> Launcher:
    (launcher.folder / "job.yaml").write_text(JOB)
    return launcher


def runs(launcher: Launcher) -> list[Path]:
    return sorted((launcher.folder / "runs").iterdir())


def begin(launcher: Launcher, step: int, *more: str) -> tuple[psutil.Popen, Path]:
    """A run that has got to `step`."""
    before = set(runs(launcher)) if (launcher.folder / "runs").exists() else set()
    process = launcher.start([*REMESH, "run", "job.yaml", *more])

    def there() -> bool:
        new = set(runs(launcher)) - before if (launcher.folder / "runs").exists() else set()
        return any(last_metrics(r / "metrics.jsonl").get("step", 0) >= step for r in new)

    wait_for(there, f"step {step}")
    (root,) = set(runs(launcher)) - before
    return process, root


def sha256(root: Path) -> str:
    summary = read_json(root / "summary.json")
    assert summary is not None
    assert summary["status"] == "completed"
    return str(summary["weights_sha256"])


def printed_command(ended: Ended) -> list[str]:
    found = re.search(r"to go on: (.*)$", ended.err, re.M)
    assert found, ended.err
    return shlex.split(found[1])


def test_what_the_last_line_says_goes_on(job: Launcher) -> None:
    process, root = begin(job, 7)
    process.send_signal(signal.SIGTERM)
    ended = job.end(process)
    assert ended.code == 75, ended.err
    assert read_json(root / "start.json") == {
        "directory": str(job.folder),
        "arguments": ["job.yaml"],
        "endpoints": [],
        "logs": str(root / "logs"),
    }
    again = job(printed_command(ended))
    assert again.code == 0, again.err
    assert runs(job) == [root]
    assert re.search(rf"going on with run {root.name} \(drained\), step \d+ of 40: ", again.err)
    assert "--fresh starts anew" in again.err

    # A completed run is left alone, and the undisturbed one has the same bits.
    calm = job.remesh("job.yaml")
    assert calm.code == 0, calm.err
    assert "going on" not in calm.err
    (other,) = set(runs(job)) - {root}
    assert sha256(other) == sha256(root)

    # Unless it is to have more steps; the record holds by both schedules.
    longer = job([*REMESH, "resume", str(root), "--steps", "44"])
    assert longer.code == 0, longer.err
    assert "(completed), step 40 of 44: from the checkpoint of step 40" in longer.err
    assert last_metrics(root / "metrics.jsonl")["step"] == 44
    audited = job([*REMESH, "audit", str(root)])
    assert audited.code == 0, audited.out
    assert sha256(other) != sha256(root)


def test_killed_at_once_it_goes_on_from_the_newest_checkpoint(job: Launcher) -> None:
    process, root = begin(job, 12)
    family = [process, *process.children(recursive=True)]
    process.kill()
    job.end(process)
    psutil.wait_procs(family, timeout=60)
    step = last_metrics(root / "metrics.jsonl")["step"]

    fresh = job.remesh("job.yaml", "--fresh", "--set", "train.stop_at=1")
    assert fresh.code == 0, fresh.err
    assert len(runs(job)) == 2

    # By name, and from another directory.
    elsewhere = job.folder / "elsewhere"
    elsewhere.mkdir()
    again = job(["env", f"--chdir={elsewhere}", *REMESH, "resume", str(root)])
    assert again.code == 0, again.err
    told = re.search(
        rf"{root.name} \(dead\), step {step} of 40: from the checkpoint of step (\d+)", again.err
    )
    assert told, again.err
    assert int(told[1]) % 5 == 0
    assert f"{step - int(told[1])} step" in again.err or step == int(told[1])
    sha256(root)
    assert job([*REMESH, "resume", str(root)]).out.startswith(f"run {root.name} is complete")
