"""Run a job or a peer's script once, and read what it measured of itself."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

BIN = Path(sys.executable).parent
WARM_UP_STEPS = 5


def environment(**extra: str) -> dict[str, str]:
    """This process's environment with one thread a rank."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **extra}


def remesh_run(directory: Path, job: Mapping[str, Any], **env: str) -> Path:
    """Run `job` to its end; its run directory. Raises CalledProcessError with its output."""
    directory.mkdir(parents=True)
    path = directory / "job.yaml"
    path.write_text(yaml.safe_dump({**job, "run": {"directory": str(directory), "id": "run"}}))
    _run([str(BIN / "remesh"), "run", str(path)], env)
    return directory / "run"


def torchrun(script: Path, nproc: int, arguments: Sequence[str], **env: str) -> dict[str, Any]:
    """Run a script under torchrun; the JSON object on the last line it printed."""
    out = _run(
        [
            str(BIN / "torchrun"),
            "--standalone",
            f"--nproc-per-node={nproc}",
            str(script),
            *arguments,
        ],
        env,
    )
    return dict(json.loads(out.strip().splitlines()[-1]))


def step_seconds(run: Path) -> list[float]:
    """The seconds of each applied step, without the first few."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step_seconds"] for line in lines][WARM_UP_STEPS:]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> list[float]:
    """The least and the largest."""
    return [round(min(values), 4), round(max(values), 4)]


def _run(argv: Sequence[str], env: Mapping[str, str]) -> str:
    done = subprocess.run(
        argv, env=environment(**env), capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode:
        sys.stderr.write(done.stdout[-4000:] + done.stderr[-4000:])
        raise subprocess.CalledProcessError(done.returncode, argv)
    return done.stdout
