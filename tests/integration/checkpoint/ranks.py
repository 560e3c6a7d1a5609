"""Rank processes that stay, so that torch is imported once: each scene is a new process group."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

JSON = Any


class Ranks:
    """Up to `count` processes; a context that leaves none behind."""

    def __init__(self, count: int) -> None:
        self._room = tempfile.TemporaryDirectory(prefix="remesh-test-")
        self._scene = 0
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            )
            for _ in range(count)
        ]

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._room.cleanup()

    def run(self, act: str, world: int, **options: JSON) -> list[JSON]:
        """Call `module:function(rank, world, **options)` on each rank; what each returned."""
        self._scene += 1
        order = {
            "act": act,
            "world": world,
            "store": f"{self._room.name}/{self._scene}",
            "options": options,
        }
        chosen = self._processes[:world]
        for rank, process in enumerate(chosen):
            assert process.stdin is not None
            process.stdin.write(json.dumps({**order, "rank": rank}) + "\n")
            process.stdin.flush()
        answers = []
        for process in chosen:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"a rank ended with {process.wait()}"
            answers.append(json.loads(line))
        return [answer["value"] for answer in answers]


def serve() -> None:
    """A rank: an order a line in, an answer a line out."""
    import torch
    import torch.distributed as dist

    from trainer.worker.groups import drop_groups

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        module, _, name = order["act"].partition(":")
        rank, world = order["rank"], order["world"]
        try:
            dist.init_process_group(
                "gloo", init_method=f"file://{order['store']}", rank=rank, world_size=world
            )
            value = getattr(importlib.import_module(module), name)(rank, world, **order["options"])
            dist.barrier()
        finally:
            drop_groups()
        answers.write(json.dumps({"value": value}) + "\n")
        answers.flush()


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    serve()
