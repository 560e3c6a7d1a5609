"""A staged slot as tensors: what a lost rank held, read where it was copied to.

The slot may be this worker's own from before, or bytes that another node's agent was sent: a
description and as many bytes of the slot as it says (`held_bytes`) are a whole mirror.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint.datafile import header_length, metadata, parse_header
from trainer.checkpoint.geometry import Box
from trainer.checkpoint.staging import read_description
from trainer.checkpoint.tensors import LocalTensor, Part
from trainer.errors import CheckpointDamaged

JSON = Any


def staged_tensors(description: str | os.PathLike[str]) -> tuple[JSON, dict[str, LocalTensor]]:
    """A slot's description (`version`, `values`, …) and its tensors, mapped and not copied.

    They change when the slot is filled anew. Raises CheckpointDamaged when the slot is not the
    described one, FileNotFoundError when there is none.
    """
    staged = read_description(description)
    # Where the description is now: an agent that was sent a mirror has put it elsewhere.
    path = Path(description).with_suffix(".stage")
    return staged, tensors_in(staged, _mapped(path, staged["held_bytes"]))


def _mapped(path: Path, size: int) -> torch.Tensor:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < size:
            raise CheckpointDamaged(f"{path} is cut short")
        # Private: torch wants memory that it could write to, and the slot has to stay as it is.
        pages = mmap.mmap(
            file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
        )
    return torch.frombuffer(pages, dtype=torch.uint8)


def tensors_in(staged: JSON, data: torch.Tensor) -> dict[str, LocalTensor]:
    """The tensors in a slot's bytes. Raises CheckpointDamaged when they are of another state."""
    length = header_length(bytes(data[:8].tolist()), staged["slot"], len(data))
    tag = parse_header(data[8 : 8 + length].numpy().tobytes(), staged["slot"]).get("__metadata__")
    if tag != metadata(staged["version"], staged["generation"], staged["attempt"]):
        raise CheckpointDamaged(f"{staged['slot']} holds {tag}, not version {staged['version']}")
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    parts: dict[str, list[Part]] = {}
    for name, dtype, shape, offsets, sizes, start, count in staged["boxes"] + staged["held"]:
        kinds[name] = dtype, tuple(shape)
        local = data[start : start + count].view(getattr(torch, dtype)).view(tuple(sizes))
        parts.setdefault(name, []).append(Part(Box(tuple(offsets), tuple(sizes)), local))
    return {name: LocalTensor(*kinds[name], tuple(of_name)) for name, of_name in parts.items()}
