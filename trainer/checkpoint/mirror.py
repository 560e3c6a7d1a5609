"""A staged slot as tensors: what a lost rank held, read where it was copied to.

The slot may be this worker's own from before, or bytes that another node's agent was sent: a
description and as many bytes of the slot as it says (`held_bytes`) are a whole mirror.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from trainer.checkpoint.datafile import header_length, metadata, parse_header
from trainer.checkpoint.geometry import Box
from trainer.checkpoint.staging import read_description, staged_bytes
from trainer.checkpoint.tensors import Bytes, LocalTensor, Part, host_bytes
from trainer.errors import CheckpointDamaged

JSON = Any


def staged_tensors(description: str | os.PathLike[str]) -> tuple[JSON, dict[str, LocalTensor]]:
    """A slot's description (`version`, `values`, …) and copies of its tensors.

    Raises CheckpointDamaged when the slot is not the described one, FileNotFoundError when there
    is none.
    """
    staged = read_description(description)
    return staged, tensors_in(staged, staged_bytes(staged["slot"], staged["held_bytes"]))


def tensors_in(staged: JSON, data: Bytes) -> dict[str, LocalTensor]:
    """The tensors in a slot's bytes. Raises CheckpointDamaged when they are of another state."""
    length = header_length(data[:8].tobytes(), staged["slot"], len(data))
    tag = parse_header(data[8 : 8 + length].tobytes(), staged["slot"]).get("__metadata__")
    if tag != metadata(staged["version"], staged["generation"], staged["attempt"]):
        raise CheckpointDamaged(f"{staged['slot']} holds {tag}, not version {staged['version']}")
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    parts: dict[str, list[Part]] = {}
    for name, dtype, shape, offsets, sizes, start, count in staged["boxes"] + staged["held"]:
        kinds[name] = dtype, tuple(shape)
        local = torch.empty(sizes, dtype=getattr(torch, dtype))
        np.copyto(host_bytes(local), data[start : start + count])
        parts.setdefault(name, []).append(Part(Box(tuple(offsets), tuple(sizes)), local))
    return {name: LocalTensor(*kinds[name], tuple(of_name)) for name, of_name in parts.items()}
