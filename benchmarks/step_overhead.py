"""What a step costs: `remesh run`, exact and not, against a hand-written FSDP2 loop.

    python benchmarks/step_overhead.py [--repeats 5] [--steps 40] [--mirror-every 10]

Two ranks, gloo, one thread each; the same model, batches and optimizer. The four are run in
turns, so that a noisy machine is noisy for all; each ratio is the median of the turns' own.
`exact` folds gradients in piece order and sums the norm free of order; `elastic` is exact with
mirrors (every 10 steps) and a standby.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.runs import median, remesh_run, spread, step_seconds, torchrun

PEER = Path(__file__).parent / "peers" / "fsdp2_loop.py"
RANKS = 2
KINDS = ("plain", "exact", "elastic", "peer")
RATIOS = (("plain", "peer"), ("exact", "peer"), ("exact", "plain"), ("elastic", "exact"))


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
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    given = parser.parse_args()
    plain, exact = job(given.steps, exact=False), job(given.steps, exact=True)
    mirrored = {"nproc_per_node": RANKS, "mirror_every": given.mirror_every}
    runs = {"plain": plain, "exact": exact, "elastic": {**exact, "elastic": mirrored}}
    turns: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        for turn in range(given.repeats):
            directory = Path(name, str(turn))
            # Forth and back: what changes slowly weighs on all alike.
            order = given.kinds if turn % 2 == 0 else given.kinds[::-1]
            turns.append({kind: measure(kind, runs, directory) for kind in order})
            print(turn, {kind: round(turns[-1][kind], 4) for kind in given.kinds}, flush=True)
    seconds = {kind: [turn[kind] for turn in turns] for kind in given.kinds}
    print(
        json.dumps(
            {
                "name": "step_overhead",
                "ranks": RANKS,
                "repeats": given.repeats,
                "mirror_every": given.mirror_every,
                "median_seconds": {k: round(median(v), 4) for k, v in seconds.items()},
                "spread_seconds": {k: spread(v) for k, v in seconds.items()},
                **{
                    f"{kind}_over_{base}": told
                    for kind, base in RATIOS
                    if (told := ratio(turns, kind, base)) is not None
                },
            }
        )
    )


def measure(kind: str, runs: Mapping[str, Mapping[str, Any]], directory: Path) -> float:
    """The median seconds of a step, in a run of its own."""
    if kind != "peer":
        return median(step_seconds(remesh_run(directory / kind, runs[kind])))
    path = directory / "peer" / "job.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(runs["plain"]))
    return median(torchrun(PEER, RANKS, [str(path)])["step_seconds"])


def ratio(turns: Sequence[Mapping[str, float]], kind: str, base: str) -> dict[str, Any] | None:
    """Turn by turn, because a machine's speed may change between two of them."""
    ratios = [turn[kind] / turn[base] for turn in turns if kind in turn and base in turn]
    if not ratios:
        return None
    return {"median": round(median(ratios), 3), "spread": spread(ratios)}


if __name__ == "__main__":
    main()
