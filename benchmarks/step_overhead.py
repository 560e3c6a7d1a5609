"""What a step costs: `remesh run`, exact and not, against a hand-written FSDP2 loop.

    python benchmarks/step_overhead.py [--repeats 5] [--steps 40] [--mirror-every 10]

Two ranks, gloo, one thread each; the same model, batches and optimizer. The four are run in
turns, so that a noisy machine is noisy for all. `exact` folds gradients in piece order and sums
the norm free of order; `elastic` is exact with mirrors (every 10 steps) and a standby.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.runs import median, remesh_run, spread, step_seconds, torchrun

PEER = Path(__file__).parent / "peers" / "fsdp2_loop.py"
RANKS = 2


def job(steps: int, **train: Any) -> dict[str, Any]:
    return {
        "name": "overhead",
        "model": {"preset": "debug", "dim": 256, "layers": 4, "heads": 4, "kv_heads": 2},
        "data": {"seq_len": 128},
        "train": {
            "steps": steps,
            "pieces": RANKS,
            "microbatches": 2,
            "microbatch_size": 4,
            "clip": 1.0,
            **train,
        },
        "checkpoint": {"every": 0, "at_end": False},
        "elastic": {"nproc_per_node": RANKS, "mirror_every": 0, "standby_per_node": 0},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--mirror-every", type=int, default=10, help="steps between two mirrors")
    given = parser.parse_args()
    plain, exact = job(given.steps, exact=False), job(given.steps, exact=True)
    mirrored = {"nproc_per_node": RANKS, "mirror_every": given.mirror_every}
    elastic = {**exact, "elastic": mirrored}
    measured: dict[str, list[float]] = {"peer": [], "plain": [], "exact": [], "elastic": []}
    with tempfile.TemporaryDirectory() as name:
        for turn in range(given.repeats):
            directory = Path(name, str(turn))
            runs = {"plain": plain, "exact": exact, "elastic": elastic}
            for kind, description in runs.items():
                run = remesh_run(directory / kind, description)
                measured[kind].append(median(step_seconds(run)))
            said = torchrun(PEER, RANKS, [str(directory / "plain" / "job.yaml")])
            measured["peer"].append(median(said["step_seconds"]))
            print(turn, {kind: round(values[-1], 4) for kind, values in measured.items()})
    middle = {kind: median(values) for kind, values in measured.items()}
    print(
        json.dumps(
            {
                "name": "step_overhead",
                "ranks": RANKS,
                "repeats": given.repeats,
                "mirror_every": given.mirror_every,
                "median_seconds": {kind: round(value, 4) for kind, value in middle.items()},
                "spread_seconds": {kind: spread(values) for kind, values in measured.items()},
                "plain_over_peer": round(middle["plain"] / middle["peer"], 3),
                "exact_over_peer": round(middle["exact"] / middle["peer"], 3),
                "exact_over_plain": round(middle["exact"] / middle["plain"], 3),
                "elastic_over_exact": round(middle["elastic"] / middle["exact"], 3),
            }
        )
    )


if __name__ == "__main__":
    main()
