"""The mirrors that lie in this node's shared memory, as state that a rank can give.

A node's staging directory has one directory a staged rank: its own workers' and, sent by their
agents, other nodes'. Whichever ranks come next on the node share them out among themselves.
"""

from __future__ import annotations

import logging
import mmap
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint.geometry import Box
from trainer.checkpoint.staging import read_description
from trainer.checkpoint.tensors import LocalTensor, Part
from trainer.errors import CheckpointDamaged
from trainer.worker.restore import Held

log = logging.getLogger(__name__)


def find_mirrors(staging: Path, *, turn: int, turns: int) -> list[Held]:
    """Every `turns`-th directory's whole slots, from the `turn`-th on."""
    held: list[Held] = []
    for directory in sorted(path for path in staging.glob("*") if path.is_dir())[turn::turns]:
        for description in sorted(directory.glob("*.json")):
            try:
                held += _read(description)
            except (CheckpointDamaged, FileNotFoundError) as error:
                log.warning("the mirror %s is passed over: %s", description, error)
    return held


def _read(path: Path) -> list[Held]:
    staged = read_description(path)
    if not staged.get("mirror"):
        return []  # it holds only what this rank was to write
    size = staged["held_bytes"]
    data = _mapped(path.with_suffix(".stage"), size)
    parts: dict[str, list[Part]] = defaultdict(list)
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    for row in (*staged["boxes"], *staged["held"]):
        name, dtype, shape, offsets, sizes, start, length = row
        kinds[name] = dtype, tuple(shape)
        parts[name].append(
            Part(Box(tuple(offsets), tuple(sizes)), _tensor(data, dtype, sizes, start, length))
        )
    tensors = {name: LocalTensor(*kinds[name], tuple(of_name)) for name, of_name in parts.items()}
    return [Held(key=str(path), kind="mirror", version=staged["version"], tensors=tensors)]


def _mapped(path: Path, size: int) -> torch.Tensor:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < size:
            raise CheckpointDamaged(f"{path} is cut short")
        # Private: torch wants memory that it could write to, and the slot has to stay as it is.
        pages = mmap.mmap(
            file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
        )
    return torch.frombuffer(pages, dtype=torch.uint8)


def _tensor(data: torch.Tensor, dtype: str, sizes: Any, start: int, length: int) -> torch.Tensor:
    element = getattr(torch, dtype)
    return data[start : start + length].view(element).view(*sizes)
