"""What a save and a load come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

JSON = Any


@dataclass(frozen=True, slots=True)
class Commit:
    """A committed checkpoint: its record's path, bytes of all its data files, seconds it took."""

    path: str
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded. `damaged` says which newer checkpoints were passed over, and why.

    `bytes` are those that this rank has read itself; replicas may have given it the rest.
    Where that is no error, `missing` names what was to be filled on this rank and is not in the
    checkpoint, and `unused` what is in it and nothing took.
    """

    version: int
    values: Mapping[str, JSON]
    path: str
    damaged: tuple[str, ...] = ()
    bytes: int = 0
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
