"""Faults as data: what the flags say happens, once, and costs no bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.launcher.launching import Launcher
from trainer.telemetry.files import read_json, read_lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

JOB = """\
model: {preset: debug}
train: {steps: 26, pieces: 2}
elastic: {nproc_per_node: 2, max_restarts: 9, mirror_every: 2}
checkpoint: {every: 0}
compile: {enabled: false}
"""
# A step that is done again is not poisoned again, so this one must not be lost with the others.
NAN = "kind=nan,step=3,rank=1"
FAULTS = (
    "kind=slow,step=4,rank=0,seconds=0.2",
    "kind=kill,step=7,rank=1",
    "kind=disconnect,step=11,rank=0,point=in-fold",
    "kind=raise,step=15,rank=0,point=before-norm",
    "kind=exit,step=19,rank=1,code=5,point=after-norm",
    "kind=stop,step=23,rank=0,seconds=0.5",
    "kind=slow,rate=0.2,seconds=0.01,times=3",
)


def run(launcher: Launcher, name: str, *faults: str) -> tuple[Path, dict]:
    (launcher.folder / "job.yaml").write_text(JOB)
    flags = [word for fault in faults for word in ("--fault", fault)]
    ended = launcher.remesh("job.yaml", "--rdzv-id", name, *flags)
    assert ended.code == 0, ended.err
    root = launcher.folder / "runs" / name
    summary = read_json(root / "summary.json")
    assert summary is not None
    return root, summary


def test_a_night_of_faults_costs_no_bits(launcher: Launcher) -> None:
    _, quiet = run(launcher, "quiet", NAN)
    assert (quiet["skipped_steps"], quiet["generations"]) == (1, 1)
    root, night = run(launcher, "night", NAN, *FAULTS)
    assert night["weights_sha256"] == quiet["weights_sha256"]
    assert night["skipped_steps"] == 1
    assert night["generations"] == 5, "kill, disconnect, raise and exit each end one"
    marks = sorted(path.name for path in (root / "faults").iterdir())
    assert marks == [*(f"{number}-0" for number in range(8)), "7-1", "7-2"]
    ends = [e for e in read_lines(root / "events.jsonl") if e["event"] == "worker.exit"]
    unexpected = [(e.get("signal"), e.get("exit_code")) for e in ends if not e["expected"]]
    assert unexpected == [("SIGKILL", None), (None, 1), (None, 5)]
    steps = [line["step"] for line in read_lines(root / "metrics.jsonl")]
    assert steps == list(range(1, 27))
