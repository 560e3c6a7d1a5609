"""Checkpoints against torch.save, dcp.save and dcp.async_save, and against the machine's limits.

Each number of ranks holds the same state, sharded. In every round each way of saving runs once, so
that all of them see the same machine. This process plays the agent: it imports no torch and writes
what the ranks have staged.

    stall     seconds for which a save stops a rank that does nothing else (limit: a memory copy)
    blocked   seconds for which a training loop's thread is held by a save whose copy goes on
              while the next step computes; every rank keeps one core busy
    lost      seconds by which that loop, until the checkpoint is durable, takes longer than as many
              steps without a save; below the noise of the steps it may come out negative
    durable   seconds until the checkpoint is on the disk (limit: a plain parallel write and fsync,
              through the page cache or past it, whichever is faster)
    load      seconds to read it in the mesh that wrote it, from the disk (limit: a plain parallel
              read)
    warm      the same from the page cache
    reshard   seconds to read it, from the disk, with every tensor cut along its other dimension
    peak      MiB of memory that the save took on top, in the rank

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Beside this file lie others named as packages are.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.saving.planning import planning  # noqa: E402
from trainer.checkpoint.writer import BackgroundWriter, Outcome  # noqa: E402

WAYS = ("remesh", "dcp_async", "dcp", "torch_save", "limit")
IN_TRAINING = ("remesh", "dcp_async", "dcp", "limit")
COLUMNS = ("stall", "blocked", "lost", "durable", "load", "warm", "reshard", "peak")
WARM_UP = 1


class Ranks:
    def __init__(self, world: int, total: int, room: Path, shared: Path) -> None:
        self.outcomes: dict[int, Future[Outcome]] = {}
        self._writer = BackgroundWriter()
        self._processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.saving.rank"),
                    *(str(rank), str(world), str(total), str(room), str(shared)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                cwd=ROOT,
            )
            for rank in range(world)
        ]

    def run(self, way: str) -> dict[str, float]:
        """Every rank does it once; the slowest rank's numbers."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(way + "\n")
            process.stdin.flush()
        answers: list[dict[str, float]] = []
        futures: list[Future[Outcome]] = []
        lock = threading.Lock()

        def listen(process: subprocess.Popen[str]) -> None:
            assert process.stdout is not None
            for line in process.stdout:
                value = json.loads(line)
                with lock:
                    if "description" in value:
                        futures.append(self._writer.submit(value["description"]))
                        continue
                    answers.append(value)
                    return
            raise RuntimeError(f"a rank ended with {process.wait()}")

        with ThreadPoolExecutor(len(self._processes)) as pool:
            list(pool.map(listen, self._processes))
        result = {key: max(answer[key] for answer in answers) for key in answers[0]}
        outcomes = [future.result() for future in futures]
        for outcome in outcomes:
            if outcome.error is not None:
                raise RuntimeError(outcome.error)
        return result

    def close(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            process.wait(timeout=60)
        self._writer.close()


def summary(rounds: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    keys = sorted(set().union(*rounds))
    return {
        key: {
            "median": round(statistics.median(of_key), 4),
            "spread": round(max(of_key) - min(of_key), 4),
        }
        for key in keys
        if (of_key := [measured[key] for measured in rounds if key in measured])
    }


def ratios(ways: dict[str, dict[str, dict[str, float]]]) -> dict[str, float | None]:
    def over(a: tuple[str, str], b: tuple[str, str]) -> float | None:
        above, below = (ways[way][key]["median"] for way, key in (a, b))
        return round(above / below, 2) if below > 0 else None

    return {
        "stall_over_copy": over(("remesh", "stall"), ("limit", "stall")),
        "lost_over_copy": over(("remesh", "lost"), ("limit", "stall")),
        "dcp_stall_over_stall": over(("dcp", "stall"), ("remesh", "stall")),
        "dcp_blocked_over_blocked": over(("dcp", "blocked"), ("remesh", "blocked")),
        "dcp_async_blocked_over_blocked": over(("dcp_async", "blocked"), ("remesh", "blocked")),
        "dcp_lost_over_lost": over(("dcp", "lost"), ("remesh", "lost")),
        "durable_over_write": over(("remesh", "durable"), ("limit", "durable")),
        "load_over_read": over(("remesh", "load"), ("limit", "load")),
        "warm_load_over_read": over(("remesh", "warm"), ("limit", "warm")),
        "reshard_over_read": over(("remesh", "reshard"), ("limit", "load")),
        "dcp_load_over_load": over(("dcp", "load"), ("remesh", "load")),
        "dcp_reshard_over_reshard": over(("dcp", "reshard"), ("remesh", "reshard")),
    }


def measure(world: int, total: int, rounds: int, base: Path) -> dict[str, Any]:
    room = Path(tempfile.mkdtemp(prefix="remesh-bench-", dir=base))
    shared = Path(tempfile.mkdtemp(prefix="remesh-bench-", dir="/dev/shm"))
    ranks = Ranks(world, total, room, shared)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    try:
        for number in range(rounds + WARM_UP):
            for way in WAYS:
                measured = ranks.run(way)
                if way in IN_TRAINING:
                    measured |= ranks.run(f"train_{way}")
                if number >= WARM_UP:
                    found[way].append(measured)
            for old in sorted((room / "remesh" / "data").iterdir())[:-1]:
                shutil.rmtree(old)
    finally:
        ranks.close()
        shutil.rmtree(room, ignore_errors=True)
        shutil.rmtree(shared, ignore_errors=True)
    ways = {way: summary(of_way) for way, of_way in found.items()}
    print(f"\n{world} ranks, {total / 2**30:.2f} GiB, {rounds} rounds; medians")
    print(f"{'':>12}" + "".join(f"{key:>10}" for key in COLUMNS))
    for way, keys in ways.items():
        row = [keys.get(key) for key in COLUMNS]
        text = "".join(
            f"{'-' if cell is None else format(cell['median'], '.3f'):>10}" for cell in row
        )
        print(f"{way:>12}{text}", flush=True)
    print(json.dumps(ratios(ways)), flush=True)
    return {"ranks": world, "bytes": total, "ways": ways, "ratios": ratios(ways)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two ranks, 128 MiB, two rounds")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--bytes", type=int, default=1 << 30)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.quick:
        args.ranks, args.bytes, args.rounds = [2], 128 << 20, 2
    plan = planning()
    print(
        f"planning for {plan['ranks']} ranks, a trillion parameters: {plan['seconds']:.2f} s "
        f"({plan['cpu_seconds']:.2f} s of one core); "
        f"again on the same mesh: {plan['cached_seconds']:.4f} s"
    )
    results = [measure(world, args.bytes, args.rounds, args.directory) for world in args.ranks]
    print(json.dumps({"name": "checkpoint", "planning": plan, "results": results}))


if __name__ == "__main__":
    main()
