"""What a rank does. It is told one word a line, and says JSON objects, one a line.

python -m benchmarks.saving.rank RANK WORLD BYTES ROOM SHARED
"""

from __future__ import annotations

import json
import math
import mmap
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import async_save as dcp_async_save
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from benchmarks.saving.loop import Loop
from benchmarks.saving.plain import forget, plain_read, plain_write, sync
from trainer.checkpoint import Checkpointer
from trainer.checkpoint.stager import Staged

TENSORS = 32
State = dict[str, DTensor]


def main() -> None:
    rank, world, total = map(int, sys.argv[1:4])
    room, shared = map(Path, sys.argv[4:])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{room}/store", rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", (world,))
    # Both sides divide by the ranks, or cut the other way it would be another model; and a rank's
    # part ends with a page, as writes past the page cache must.
    width = 1024 // world * world
    whole = world * (1024 // math.gcd(1024, width))
    rows = -(-total // (TENSORS * 4 * width * whole)) * whole
    state: State = {}
    crossed: State = {}
    for index in range(TENSORS):
        local = torch.rand(rows // world, width)
        state[f"layer{index}.weight"] = DTensor.from_local(local, mesh, [Shard(0)])
        columns = torch.zeros(rows, width // world)
        crossed[f"layer{index}.weight"] = DTensor.from_local(columns, mesh, [Shard(1)])
    ways = Ways(rank, world, room, shared, state, crossed)
    for line in sys.stdin:
        act = getattr(ways, line.strip())
        dist.barrier()
        say(act())
    dist.destroy_process_group()


def say(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


class Ways:
    """Each public method is one way to save and load; returns its seconds and MiB.

    Where a way's name begins with `train_`, it saves amid a training loop, and `lost` is how much
    longer that took than as many steps without a save.
    """

    def __init__(
        self, rank: int, world: int, room: Path, shared: Path, state: State, crossed: State
    ) -> None:
        self.rank, self.room = rank, room
        self.state, self.crossed = state, crossed
        self.version = 0
        self.checkpointer = Checkpointer(
            room / "remesh",
            identity={},
            rank=rank,
            world_size=world,
            generation=1,
            group=dist.group.WORLD,
            staging=shared / f"rank{rank}",
        )
        self.sources = [tensor.to_local() for tensor in state.values()]
        self.copies = [on_pages(source) for source in self.sources]
        # Its collectives come from a thread, and must not meet those of the training loop.
        self.dcp_group = dist.new_group()
        self.loop = Loop()

    def remesh(self) -> dict[str, float]:
        before = high_water()
        self.version += 1
        begin = time.perf_counter()
        staged = self._stage(overlap=False)
        description = str(staged.wait())
        stall = time.perf_counter() - begin
        peak = high_water() - before
        say({"description": description})
        while not self._committed():
            time.sleep(0.005)
        durable = time.perf_counter() - begin
        return {"stall": stall, "durable": durable, "peak": peak} | self._loads(
            self._files("remesh/data/*/*"),
            lambda: self.checkpointer.load(self.state),
            lambda: self.checkpointer.load(self.crossed),
        )

    def dcp(self) -> dict[str, float]:
        target = self.room / "dcp"
        before = high_water()
        stall = self._timed(lambda: dcp_save(self.state, checkpoint_id=target))
        peak = high_water() - before
        durable = stall + self._timed(lambda: sync(target))
        return {"stall": stall, "durable": durable, "peak": peak} | self._loads(
            self._files("dcp/*"),
            lambda: dcp_load(self.state, checkpoint_id=target),
            lambda: dcp_load(self.crossed, checkpoint_id=target),
        )

    def dcp_async(self) -> dict[str, float]:
        target = self.room / "dcp_async"
        begin, before = time.perf_counter(), high_water()
        future = self._dcp_async(target)
        stall = time.perf_counter() - begin
        future.result()
        sync(target)
        durable = time.perf_counter() - begin
        return {"stall": stall, "durable": durable, "peak": high_water() - before}

    def torch_save(self) -> dict[str, float]:
        target = self.room / f"torch{self.rank}.pt"
        local = {name: tensor.to_local() for name, tensor in self.state.items()}
        before = high_water()
        stall = self._timed(lambda: torch.save(local, target))
        peak = high_water() - before
        durable = stall + self._timed(lambda: sync(target))
        return {"stall": stall, "durable": durable, "peak": peak} | self._loads(
            self._files("torch*.pt"), lambda: torch.load(target, weights_only=True), None
        )

    def limit(self) -> dict[str, float]:
        target = self.room / f"plain{self.rank}"
        views = [memoryview(copied.numpy()).cast("B") for copied in self.copies]
        stall = self._timed(self._copy)
        durable = min(
            self._timed(lambda: plain_write(target, views, direct=False)),
            self._timed(lambda: plain_write(target, views, direct=True)),
        )
        return {"stall": stall, "durable": durable} | self._loads(
            self._files("plain*"), lambda: plain_read(target, views), None
        )

    def train_remesh(self) -> dict[str, float]:
        """The copy goes on while the next step computes; the step waits for it before it applies.

        The loop goes on until the checkpoint is durable, so that the writing in the background
        is counted for whatever it takes from the steps.
        """
        self.version += 1
        staged: list[Staged] = []

        def land() -> None:
            say({"description": str(staged[0].wait())})

        return self.loop.lost(
            begin=lambda: staged.append(self._stage(overlap=True)), land=land, done=self._committed
        )

    def train_dcp(self) -> dict[str, float]:
        return self.loop.lost(
            begin=lambda: dcp_save(self.state, checkpoint_id=self.room / "dcp"),
        )

    def train_dcp_async(self) -> dict[str, float]:
        futures: list[Any] = []

        def begin() -> None:
            futures.append(self._dcp_async(self.room / "dcp_async"))

        return self.loop.lost(begin=begin, done=lambda: futures[0].done())

    def train_limit(self) -> dict[str, float]:
        return self.loop.lost(begin=self._copy)

    def _stage(self, *, overlap: bool) -> Staged:
        staged = self.checkpointer.stage(self.version, self.state, {}, overlap=overlap)
        assert staged is not None
        return staged

    def _dcp_async(self, target: Path) -> Any:
        return dcp_async_save(self.state, checkpoint_id=target, process_group=self.dcp_group)

    def _committed(self) -> bool:
        return self.checkpointer.newest_version() == self.version

    def _copy(self) -> None:
        for place, source in zip(self.copies, self.sources, strict=True):
            place.copy_(source)

    def _files(self, pattern: str) -> Callable[[], Iterator[Path]]:
        return lambda: self.room.glob(pattern)

    def _loads(
        self,
        files: Callable[[], Iterator[Path]],
        load: Callable[[], object],
        reshard: Callable[[], object] | None,
    ) -> dict[str, float]:
        """From the disk, once more from the page cache, and in another mesh from the disk."""
        self._forget(files())
        found = {"load": self._timed(load), "warm": self._timed(load)}
        if reshard is not None:
            self._forget(files())
            found["reshard"] = self._timed(reshard)
        return found

    def _forget(self, files: Iterator[Path]) -> None:
        dist.barrier()
        if self.rank == 0:
            for file in files:
                forget(file)

    def _timed(self, act: Callable[[], object]) -> float:
        dist.barrier()
        begin = time.perf_counter()
        act()
        dist.barrier()
        return time.perf_counter() - begin


def on_pages(source: torch.Tensor) -> torch.Tensor:
    """A copy that begins on a page."""
    memory = mmap.mmap(-1, source.numel() * source.element_size())
    return torch.frombuffer(memory, dtype=source.dtype).view(source.shape).copy_(source)


def high_water() -> float:
    """MiB of private memory at its highest since the last call."""
    text = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines())
    Path("/proc/self/clear_refs").write_text("5")
    peak, shared = (int(fields[key].split()[0]) for key in ("VmHWM", "RssShmem"))
    return (peak - shared) / 1024


if __name__ == "__main__":
    main()
