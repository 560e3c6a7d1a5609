"""What several ranks have under one name is told to be the same, or whose it is to be.

A few bytes are exchanged where all is the same; a fingerprint a name where something is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from trainer.checkpoint.fingerprint import digest_of, fingerprint

JSON = Any


@dataclass(frozen=True, slots=True)
class Copies:
    """This rank's: a fingerprint of each tensor and value by name."""

    prints: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of all: ranks of one digest have the same names and bytes."""
        return digest_of(sorted(self.prints.items()))


def prints_of(tensors: Mapping[str, torch.Tensor], values: Mapping[str, JSON]) -> Copies:
    """Of tensors that are whole on this rank, and plain values as JSON.

    A tensor that can't be saved at all has no fingerprint: its save will say why.
    """
    prints = {name: digest_of(value) for name, value in values.items()}
    for name, tensor in tensors.items():
        if tensor.layout is torch.strided and not tensor.is_meta and not tensor.is_quantized:
            prints[name] = fingerprint([tensor.detach()])
    return Copies(prints)


def differing(of_ranks: Sequence[Mapping[str, str]]) -> dict[str, int]:
    """The names under which two ranks have different things, and the lowest rank that has one."""
    first: dict[str, tuple[int, str]] = {}
    found: dict[str, int] = {}
    for rank, prints in enumerate(of_ranks):
        for name, told in prints.items():
            owner, wanted = first.setdefault(name, (rank, told))
            if told != wanted:
                found[name] = owner
    return found
