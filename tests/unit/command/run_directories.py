"""Run directories as agents leave them, made by hand."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from trainer.telemetry import RunDirectory


def leave_run(root: Path, *, steps: int = 0, summary: bool = False, **status: Any) -> RunDirectory:
    """A run of one node; `status` overrides keys of what its agent has written."""
    directory = RunDirectory(root)
    directory.create()
    directory.job.write_text("model: {preset: debug}\n")
    lines = [json.dumps({"step": n, "loss": 4.0 / n}) + "\n" for n in range(1, steps + 1)]
    directory.metrics.write_text("".join(lines))
    head = {
        "run_id": root.name,
        "state": "running",
        "generation": 2,
        "world_size": 1,
        "mesh": "one rank",
        "reason": "a worker was lost",
        "step": steps,
        "total_steps": 9,
        "lost_steps": 0,
        "time": time.time(),
    }
    directory.status.write_text(json.dumps(head | status))
    worker = {"rank": 0, "local_rank": 0, "pid": 2, "state": "running", "generation": 2}
    part = {"node": "a", "pid": 1, "host": "h", "state": "running", "generation": 2}
    (directory.agents / "a.json").write_text(json.dumps(part | {"workers": [worker]}))
    if summary:
        told = {"status": status["state"], "reason": "every step is done", "weights_sha256": "ab12"}
        directory.summary.write_text(json.dumps(told))
    return directory
