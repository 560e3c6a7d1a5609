"""A part of a tensor on its way from one rank to another. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trainer.checkpoint.geometry import Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """`box` of tensor `name` goes from what rank `source` holds under `key` into rank `target`."""

    name: str
    box: Box
    source: int
    key: str
    target: int


def rows_of(moves: Iterable[Move]) -> list[Any]:
    """Moves as JSON."""
    return [[move.name, move.box, move.source, move.key, move.target] for move in moves]


def moves_of(rows: Iterable[Any]) -> list[Move]:
    """And back."""
    return [
        Move(
            name=name,
            box=Box(tuple(offsets), tuple(sizes)),
            source=source,
            key=key,
            target=target,
        )
        for name, (offsets, sizes), source, key, target in rows
    ]
