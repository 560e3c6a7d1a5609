"""Checkpoints against torch.save, dcp.save and dcp.async_save, and against the machine's limits.

Each number of ranks holds the same state, sharded. In every round each way of saving runs once, so
that all of them see the same machine. This process plays the agent: it imports no torch and writes
what the ranks have staged.

    stall     seconds for which training stands still (memory copy: the limit)
    durable   seconds until the checkpoint is on the disk (plain parallel write + fsync: the limit)
    load      seconds to read it in the mesh that wrote it (plain parallel read: the limit)
    reshard   seconds to read it with every tensor cut along its other dimension
    peak      MiB of memory that the save took on top, in the rank

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Beside this file lie others named as packages are.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from trainer.checkpoint.geometry import Box, Cut, local_parts  # noqa: E402
from trainer.checkpoint.plan import Group, assign, group_of  # noqa: E402
from trainer.checkpoint.writer import BackgroundWriter, Outcome  # noqa: E402

WAYS = ("remesh", "dcp_async", "dcp", "torch_save", "limit")
TENSORS = 32
PART = 8 << 20
WARM_UP = 2


# What a rank does. It says one JSON object a line, and is told one word a line.


def rank_main(rank: int, world: int, total: int, room: Path, shared: Path) -> None:
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{room}/store", rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", (world,))
    rows = total // (TENSORS * 4 * 1024)
    state: dict[str, DTensor] = {}
    crossed: dict[str, DTensor] = {}
    for index in range(TENSORS):
        local = torch.rand(rows // world, 1024)
        state[f"layer{index}.weight"] = DTensor.from_local(local, mesh, [Shard(0)])
        columns = torch.zeros(rows, 1024 // world)
        crossed[f"layer{index}.weight"] = DTensor.from_local(columns, mesh, [Shard(1)])
    ways = Ways(rank, world, room, shared, state, crossed)
    for line in sys.stdin:
        way = line.strip()
        dist.barrier()
        print(json.dumps(getattr(ways, way)()), flush=True)
    dist.destroy_process_group()


class Ways:
    """Each method is one way to save and load; returns its seconds and MiB."""

    def __init__(
        self, rank: int, world: int, room: Path, shared: Path, state: Any, crossed: Any
    ) -> None:
        from trainer.checkpoint import Checkpointer

        self.rank, self.world, self.room = rank, world, room
        self.state, self.crossed = state, crossed
        self.version = 0
        self.checkpointer = Checkpointer(
            room / "remesh",
            identity={},
            rank=rank,
            world_size=world,
            generation=1,
            staging=shared / f"rank{rank}",
        )
        self.copies = [tensor.to_local().clone() for tensor in state.values()]

    def remesh(self) -> dict[str, float]:
        self.version += 1
        begin, before = time.perf_counter(), high_water()
        staged = self.checkpointer.stage(self.version, self.state, {}, overlap=False)
        assert staged is not None
        description = str(staged.wait())
        stall = time.perf_counter() - begin
        peak = high_water() - before
        print(json.dumps({"description": description}), flush=True)
        self.checkpointer.drain()
        self._until_committed()
        load = self._timed(lambda: self.checkpointer.load(self.state))
        reshard = self._timed(lambda: self.checkpointer.load(self.crossed))
        return {"stall": stall, "load": load, "reshard": reshard, "peak": peak}

    def _until_committed(self) -> None:
        while self.checkpointer.newest_version() != self.version:
            time.sleep(0.01)

    def dcp(self) -> dict[str, float]:
        from torch.distributed.checkpoint.state_dict_loader import load
        from torch.distributed.checkpoint.state_dict_saver import save

        target = self.room / "dcp"
        before = high_water()
        stall = self._timed(lambda: save(self.state, checkpoint_id=target))
        peak = high_water() - before
        durable = stall + self._timed(lambda: sync(target))
        loaded = self._timed(lambda: load(self.state, checkpoint_id=target))
        reshard = self._timed(lambda: load(self.crossed, checkpoint_id=target))
        return {
            "stall": stall,
            "durable": durable,
            "load": loaded,
            "reshard": reshard,
            "peak": peak,
        }

    def dcp_async(self) -> dict[str, float]:
        from torch.distributed.checkpoint.state_dict_saver import async_save

        target = self.room / "dcp_async"
        begin, before = time.perf_counter(), high_water()
        future: Any = async_save(self.state, checkpoint_id=target)
        stall = time.perf_counter() - begin
        future.result()
        sync(target)
        return {
            "stall": stall,
            "durable": time.perf_counter() - begin,
            "peak": high_water() - before,
        }

    def torch_save(self) -> dict[str, float]:
        import torch

        target = self.room / f"torch{self.rank}.pt"
        local = {name: tensor.to_local() for name, tensor in self.state.items()}
        before = high_water()
        stall = self._timed(lambda: torch.save(local, target))
        peak = high_water() - before
        durable = stall + self._timed(lambda: sync(target))
        load = self._timed(lambda: torch.load(target, weights_only=True))
        return {"stall": stall, "durable": durable, "load": load, "peak": peak}

    def limit(self) -> dict[str, float]:
        target = self.room / f"plain{self.rank}"
        sources = [tensor.to_local() for tensor in self.state.values()]

        def copy() -> None:
            for place, source in zip(self.copies, sources, strict=True):
                place.copy_(source)

        views = [memoryview(copied.numpy()).cast("B") for copied in self.copies]
        stall = self._timed(copy)
        durable = self._timed(lambda: plain_write(target, views))
        load = self._timed(lambda: plain_read(target, views))
        return {"stall": stall, "durable": durable, "load": load, "reshard": load}

    def _timed(self, act: Callable[[], object]) -> float:
        import torch.distributed as dist

        dist.barrier()
        begin = time.perf_counter()
        act()
        dist.barrier()
        return time.perf_counter() - begin


def plain_write(target: Path, views: Sequence[memoryview]) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    size = len(views[0])

    def write(index: int) -> None:
        for start in range(0, size, PART):
            os.pwrite(descriptor, views[index][start : start + PART], index * size + start)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(len(views))))
    os.fsync(descriptor)
    os.close(descriptor)


def plain_read(target: Path, views: Sequence[memoryview]) -> None:
    descriptor = os.open(target, os.O_RDONLY)
    size = len(views[0])

    def read(index: int) -> None:
        for start in range(0, size, PART):
            os.preadv(descriptor, [views[index][start : start + PART]], index * size + start)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(len(views))))
    os.close(descriptor)


def sync(path: Path) -> None:
    for file in path.iterdir() if path.is_dir() else [path]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def high_water() -> float:
    """MiB of private memory at its highest since the last call."""
    text = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines())
    Path("/proc/self/clear_refs").write_text("5")
    peak, shared = (int(fields[key].split()[0]) for key in ("VmHWM", "RssShmem"))
    return (peak - shared) / 1024


# What this process does: it starts the ranks, plays their agent, and counts.


class Ranks:
    def __init__(self, world: int, total: int, room: Path, shared: Path) -> None:
        self.outcomes: dict[int, Future[Outcome]] = {}
        self._writer = BackgroundWriter()
        self._processes = [
            subprocess.Popen(
                [
                    *(sys.executable, __file__, "--rank", str(rank), "--world", str(world)),
                    *("--bytes", str(total)),
                    *("--room", str(room), "--shared", str(shared)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
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
        if outcomes:
            copied = result["stall"]
            result["durable"] = copied + max(outcome.seconds for outcome in outcomes)
        return result

    def close(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            process.wait(timeout=60)
        self._writer.close()


def planning(ranks: int = 4096) -> dict[str, float]:
    """Plan the save of a model of a trillion parameters with AdamW, as rank 0 does."""
    payloads = list(simulated_layouts(ranks))
    begin, worked = time.perf_counter(), time.process_time()
    layouts = [[group_of(row) for row in json.loads(text)] for text in payloads]
    plan = assign(layouts)
    answers = [json.dumps(groups) for groups in plan]
    cold, worked = time.perf_counter() - begin, time.process_time() - worked
    row = json.dumps([True, False, "", None])
    begin = time.perf_counter()
    agreed = all(json.loads(row)[0] for _ in range(ranks))
    cached = time.perf_counter() - begin
    assert agreed
    assert len(answers) == ranks
    return {"ranks": ranks, "seconds": cold, "cpu_seconds": worked, "cached_seconds": cached}


def simulated_layouts(ranks: int) -> Iterator[str]:
    stages, tensor, replicas = 16, 8, 2
    shards = ranks // (stages * tensor * replicas)
    dim, inner, vocab, layers, keys = 25600, 84480, 128256, 128, 2048
    column, row, whole = (
        (None, Cut(0, tensor), Cut(0)),
        (None, Cut(0), Cut(1)),
        (None, Cut(0), None),
    )
    kinds: dict[str, tuple[tuple[int, ...], Sequence[Cut | None]]] = {
        "attention_norm": ((dim,), whole),
        "ffn_norm": ((dim,), whole),
        "wq": ((dim, dim), column),
        "wk": ((keys, dim), column),
        "wv": ((keys, dim), column),
        "wo": ((dim, dim), row),
        "w1": ((inner, dim), column),
        "w2": ((dim, inner), row),
        "w3": ((inner, dim), column),
    }
    ends = {0: "tok_embeddings", stages - 1: "output"}
    mesh = (replicas, shards, tensor)
    for coordinate in itertools.product(*map(range, mesh)):
        boxes: dict[str, tuple[Box, ...]] = {
            kind: tuple(box for box, _ in local_parts(shape, mesh, coordinate, cuts))
            for kind, (shape, cuts) in kinds.items()
        }
        head = tuple(box for box, _ in local_parts((vocab, dim), mesh, coordinate, column))
        for stage in range(stages):
            span = range(stage * layers // stages, (stage + 1) * layers // stages)
            groups = [
                Group("float32", shape, boxes[kind], named(f"layers.{i}.{kind}" for i in span))
                for kind, (shape, _) in kinds.items()
            ]
            if stage in ends:
                groups.append(Group("float32", (vocab, dim), head, named([ends[stage]])))
            yield json.dumps(groups)


def named(weights: Any) -> tuple[str, ...]:
    forms = ("model/{}", "optim/{}/exp_avg", "optim/{}/exp_avg_sq")
    return tuple(form.format(weight) for weight in weights for form in forms)


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


def ratios(ways: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    def median(way: str, key: str) -> float:
        return ways[way][key]["median"]

    return {
        "stall_over_copy": round(median("remesh", "stall") / median("limit", "stall"), 3),
        "dcp_stall_over_stall": round(median("dcp", "stall") / median("remesh", "stall"), 2),
        "durable_over_write": round(median("remesh", "durable") / median("limit", "durable"), 3),
        "load_over_read": round(median("remesh", "load") / median("limit", "load"), 3),
        "dcp_load_over_load": round(median("dcp", "load") / median("remesh", "load"), 2),
        "dcp_reshard_over_reshard": round(
            median("dcp", "reshard") / median("remesh", "reshard"), 2
        ),
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
    print(
        f"{'':>12}"
        + "".join(f"{key:>10}" for key in ("stall", "durable", "load", "reshard", "peak"))
    )
    for way, keys in ways.items():
        row = [keys.get(key) for key in ("stall", "durable", "load", "reshard", "peak")]
        text = "".join(
            f"{'-' if cell is None else format(cell['median'], '.3f'):>10}" for cell in row
        )
        print(f"{way:>12}{text}")
    return {"ranks": world, "bytes": total, "ways": ways, "ratios": ratios(ways)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two ranks, 128 MiB, two rounds")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--bytes", type=int, default=1 << 30)
    parser.add_argument("--rounds", type=int, default=5)
    for hidden in ("--rank", "--world"):
        parser.add_argument(hidden, type=int, help=argparse.SUPPRESS)
    for hidden in ("--room", "--shared"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank is not None:
        rank_main(args.rank, args.world, args.bytes, args.room, args.shared)
        return
    plan = planning()
    print(
        f"planning for {plan['ranks']} ranks, a trillion parameters: {plan['seconds']:.2f} s "
        f"({plan['cpu_seconds']:.2f} s of one core); "
        f"again on the same mesh: {plan['cached_seconds']:.4f} s"
    )
    worlds, total, rounds = (
        ((2,), 128 << 20, 2) if args.quick else ((1, 2, 4), args.bytes, args.rounds)
    )
    results = [measure(world, total, rounds, args.directory) for world in worlds]
    print(json.dumps({"name": "checkpoint", "planning": plan, "results": results}))


if __name__ == "__main__":
    main()
