"""A worker for torchrun: says where it is and works until a file appears.

    python worker.py FOLDER alone|together

`together` sums ones over all ranks, with torch and gloo; `alone` needs neither.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def main(folder: Path, how: str) -> None:
    line: dict[str, Any] = {
        "rank": int(os.environ["RANK"]),
        "world": int(os.environ["WORLD_SIZE"]),
        "store": os.environ["MASTER_PORT"],
        "agent": os.getppid(),
        "pid": os.getpid(),
    }
    if how == "together":
        with process_group():
            line["sum"] = sum_over_ranks(1)
            say(folder, line)
            while not sum_over_ranks((folder / "finish").exists()):
                time.sleep(0.05)
    else:
        say(folder, line)
        while not (folder / "finish").exists():
            time.sleep(0.05)


def say(folder: Path, line: dict[str, Any]) -> None:
    with (folder / "entered").open("a") as entered:
        entered.write(json.dumps(line) + "\n")


@contextmanager
def process_group() -> Iterator[None]:
    import torch.distributed as dist

    dist.init_process_group("gloo")
    yield
    dist.destroy_process_group()


def sum_over_ranks(value: float) -> float:
    import torch
    import torch.distributed as dist

    tensor = torch.tensor(float(value))
    dist.all_reduce(tensor)
    return tensor.item()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
