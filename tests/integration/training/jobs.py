"""Small jobs for tests, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CORPUS = ("the quick brown fox jumps over the lazy dog; " * 40 + "\n") * 24


def write_job(directory: Path, **overrides: Any) -> Path:
    """A job of a tiny decoder over a tiny corpus; `train__steps=5` sets `train.steps`."""
    directory.mkdir(parents=True, exist_ok=True)
    corpus = directory / "corpus.txt"
    corpus.write_text(CORPUS)
    job: dict[str, Any] = {
        "name": "tiny",
        "model": {
            "preset": "debug",
            "dim": 32,
            "layers": 4,
            "heads": 4,
            "kv_heads": 2,
            "dropout": 0.1,
        },
        "data": {"path": str(corpus), "seq_len": 32},
        "train": {
            "steps": 20,
            "pieces": 4,
            "microbatches": 4,
            "microbatch_size": 1,
            "clip": 0.5,
            "optimizer": {"lr": 3e-3},
        },
        "parallel": {},
        "checkpoint": {"every": 0, "at_end": False},
    }
    for key, value in overrides.items():
        section, _, name = key.partition("__")
        job[section] = {**job[section], name: value} if name else value
    path = directory / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def mesh(dp: int = 1, pp: int = 1, tp: int = 1, replicate: int = 1) -> dict[str, int]:
    """The overrides that ask for one mesh."""
    return {
        "parallel__data": dp,
        "parallel__pipeline": pp,
        "parallel__tensor": tp,
        "parallel__replicate": replicate,
    }
