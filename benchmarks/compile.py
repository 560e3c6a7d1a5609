"""What torch.compile gives and costs: step time, and the first step, cold and warm.

    python benchmarks/compile.py [--repeats 3] [--steps 30]

One rank of the small decoder on whatever device there is. `cold` begins with an empty compile
cache on disk, `warm` finds what cold left there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.runs import median, remesh_run, spread, step_seconds


def job(steps: int, *, compiled: bool) -> dict[str, Any]:
    return {
        "name": "compile",
        "model": {"preset": "debug", "dim": 256, "layers": 4, "heads": 4, "kv_heads": 2},
        "data": {"seq_len": 128},
        "train": {"steps": steps, "pieces": 1, "microbatch_size": 8, "clip": 1.0},
        "compile": {"enabled": compiled},
        "checkpoint": {"every": 0, "at_end": False},
        "elastic": {"nproc_per_node": 1, "mirror_every": 0},
    }


def first_step(run: Path) -> float:
    line = (run / "metrics.jsonl").read_text().splitlines()[0]
    return float(json.loads(line)["step_seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    given = parser.parse_args()
    steps: dict[str, list[float]] = {"eager": [], "cold": [], "warm": []}
    first: dict[str, list[float]] = {"eager": [], "cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as name:
        for turn in range(given.repeats):
            cache = {"TORCHINDUCTOR_CACHE_DIR": str(Path(name, f"cache{turn}"))}
            for kind in steps:
                described = job(given.steps, compiled=kind != "eager")
                run = remesh_run(Path(name, f"{turn}-{kind}"), described, **cache)
                steps[kind].append(median(step_seconds(run)))
                first[kind].append(first_step(run))
            print(turn, {kind: round(values[-1], 4) for kind, values in steps.items()})
    compiled = [*steps["cold"], *steps["warm"]]
    print(
        json.dumps(
            {
                "name": "compile",
                "repeats": given.repeats,
                "median_step_seconds": {
                    "eager": round(median(steps["eager"]), 4),
                    "compiled": round(median(compiled), 4),
                },
                "spread_step_seconds": {
                    "eager": spread(steps["eager"]),
                    "compiled": spread(compiled),
                },
                "median_first_step_seconds": {k: round(median(v), 2) for k, v in first.items()},
                "compiled_over_eager": round(median(compiled) / median(steps["eager"]), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
