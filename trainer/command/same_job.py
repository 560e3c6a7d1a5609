"""Whether a run directory belongs to the job that is about to use it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainer.errors import JobError
from trainer.job.yaml12 import parse

IDENTITY = ("name", "model", "data", "train", "entrypoint")
MAY_CHANGE = ("train.stop_at", "train.microbatches", "train.exact")


def differences(old_text: str, new_text: str) -> list[str]:
    """Keys that make it another job: what is trained, on what, and how long.

    The mesh, the nodes, checkpoints, timeouts and `train.stop_at` may change from one start to
    the next. A file that can't be read differs as a whole.
    """
    try:
        (old, _), (new, _) = parse(old_text, "before"), parse(new_text, "now")
    except JobError:
        return ["(the whole file)"]
    before, after = dict(_identity(old)), dict(_identity(new))
    return sorted(key for key in before | after if before.get(key) != after.get(key))


def _identity(job: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section in IDENTITY:
        yield from _leaves(section, job.get(section))
    run = job.get("run")
    if isinstance(run, dict):
        yield "run.seed", run.get("seed", 0)


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if prefix in MAY_CHANGE:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(f"{prefix}.{key}", inner)
    else:
        yield prefix, value
