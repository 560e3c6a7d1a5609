"""Run directories that a full disk, another version or a person has been at."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.mutations import altered, broken_json, torn
from tests.fuzz.trial import ROUNDS, trial
from trainer.command import main
from trainer.command.operate import open_run
from trainer.errors import JobError

T = 1_700_000_000.0
GOOD: dict[str, list[Any]] = {
    "status.json": [
        {
            "run_id": "a",
            "state": "running",
            "generation": 2,
            "reason": "n1 left",
            "rendezvous": {"endpoints": ["h:1"], "files": {"token_file": "/t"}},
            "world_size": 2,
            "restarts": 1,
            "mesh": "dp 2",
            "step": 6,
            "total_steps": 6,
            "loss": 2.5,
            "lost_steps": 0,
            "began": T,
            "earlier_seconds": 0.0,
            "wall_seconds": 9.5,
            "time": T + 9,
        }
    ],
    "agents/n0.json": [
        {
            "node": "n0",
            "pid": 2,
            "host": "h",
            "state": "running",
            "generation": 2,
            "time": T + 9,
            "end": {
                "generation": 2,
                "status": "completed",
                "reason": "r",
                "code": 0,
                "whole": True,
                "gone": True,
            },
            "workers": [
                {"rank": 0, "local_rank": 0, "pid": 3, "state": "running", "generation": 2}
            ],
        }
    ],
    "plans.json": [
        {
            "generation": 2,
            "time": T,
            "without": [
                {
                    "node": "n0",
                    "mesh": "",
                    "ranks": 0,
                    "waits": True,
                    "reason": "it waits",
                    "bytes_to_move": None,
                    "steps_at_risk": 2,
                }
            ],
        }
    ],
    "summary.json": [
        {
            "run_id": "a",
            "status": "completed",
            "reason": "r",
            "steps": 6,
            "final_loss": 2.5,
            "generations": 2,
            "restarts": 1,
            "lost_steps": 0,
            "wall_seconds": 9.5,
            "goodput": 0.5,
        }
    ],
    "start.json": [{"arguments": ["run", "j.yaml"], "endpoints": ["h:1"], "directory": "/r"}],
    "metrics.jsonl": [
        {
            "step": step,
            "loss": 3.0,
            "grad_norm": 1.0,
            "lr": 1e-3,
            "tokens": 1536,
            "step_seconds": 1.0,
            "generation": 1 + step // 4,
            "world_size": 2,
            "time": T + step,
        }
        for step in range(1, 7)
    ],
    "events.jsonl": [
        {"time": T, "event": "run.begin", "generation": 1, "node": "n0", "run_id": "a", "step": 0},
        {
            "time": T,
            "event": "generation.begin",
            "generation": 1,
            "node": "n0",
            "world_size": 2,
            "nodes": ["n0", "n1"],
            "reason": "r",
        },
        {"time": T, "event": "state.restored", "generation": 1, "rank": 0, "version": 0}
        | {"source": "initial"},
        {"time": T, "event": "checkpoint.commit", "generation": 1, "rank": 0, "version": 3},
        {"time": T, "event": "checkpoint.failed", "generation": 1, "version": 3, "error": "e"},
        {"time": T, "event": "state.rolled_back", "generation": 1, "step": 3, "version": 2},
        {"time": T, "event": "generation.end", "generation": 1, "node": "n0", "reason": "r"},
        {"time": T, "event": "generation.begin", "generation": 2, "node": "n0", "world_size": 2},
        {"time": T, "event": "state.restored", "generation": 2, "rank": 0, "version": 3}
        | {"source": "memory"},
        {"time": T, "event": "run.end", "generation": 2, "status": "completed", "reason": "r"},
    ],
}
JOB = "name: small\nmodel: {preset: debug}\ntrain: {steps: 6}\nparallel: {data: 2}\n"


def text_of(values: list[Any]) -> bytes:
    return b"\n".join(json.dumps(value).encode() for value in values) + b"\n"


def write(root: Path, name: str, data: bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def damage(rng: random.Random) -> tuple[str, bytes]:
    name = rng.choice([*GOOD, "job.yaml"])
    if name == "job.yaml":
        return name, torn(JOB.encode(), rng)
    values = list(GOOD[name])
    if rng.random() < 0.3:
        return name, torn(text_of(values), rng)
    at = rng.randrange(len(values))
    if len(values) == 1:
        return name, broken_json(values[0], rng)
    values[at] = altered(values[at], rng)
    return name, text_of(values)


@ROUNDS
@pytest.mark.parametrize("command", ["status", "plan", "audit", "scale and drain"])
def test_run_directories(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, rounds: int
) -> None:
    good = {name: text_of(values) for name, values in GOOD.items()} | {"job.yaml": JOB.encode()}
    for name, data in good.items():
        write(tmp_path, name, data)

    def read(given: tuple[str, bytes]) -> None:
        name, data = given
        write(tmp_path, name, data)
        try:
            if command == "scale and drain":
                run = open_run(str(tmp_path))
                assert all(type(node) is str for node in run.nodes)
            elif main([command, str(tmp_path)]) == 2:
                raise JobError(capsys.readouterr().err)
        finally:
            capsys.readouterr()
            write(tmp_path, name, good[name])

    trial(f"run directories: {command}", damage, read, JobError, count=400, rounds=rounds)
