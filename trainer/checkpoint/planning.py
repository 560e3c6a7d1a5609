"""The ranks agree on who writes what; while nothing moves, the last plan serves again."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash

from trainer.checkpoint.datafile import BoxEntry
from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.outcome import failure, raise_failure
from trainer.checkpoint.plan import assign, block_bytes, entries_of, group_of
from trainer.checkpoint.tensors import LocalTensor, layout_of
from trainer.errors import CheckpointError
from trainer.names import attempt_name

JSON = Any
Kinds = Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Share:
    """What this rank writes. `kinds` of all tensors and `writers` are known at rank 0 alone.

    `total` is how many bytes the tensors have that all ranks write.
    """

    block: int
    total: int
    entries: Sequence[BoxEntry]
    kinds: Kinds = field(default_factory=dict)
    writers: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Agreement:
    """One save as all ranks see it; `busy` when the last one is still on its way somewhere."""

    attempt: str
    share: Share
    busy: bool
    cached: bool


class Planner:
    """Plans saves over an exchange; the last plan serves as long as every rank's layout stays."""

    def __init__(self, exchange: Exchange, generation: int) -> None:
        self._exchange = exchange
        self._generation = generation
        self._digest = ""
        self._share: Share | None = None

    @property
    def last(self) -> Share | None:
        """What the next agreement will most likely be."""
        return self._share

    def agree(
        self,
        version: int,
        local: Mapping[str, LocalTensor],
        *,
        fault: JSON = None,
        busy: bool = False,
    ) -> Agreement:
        """Collective. Raises, on every rank, any rank's `fault`; CheckpointError for a layout."""
        layout = layout_of(local)
        digest = xxhash.xxh3_128_hexdigest(json.dumps(layout).encode())
        token = secrets.token_hex(4) if self._exchange.rank == 0 else ""
        same = self._share is not None and digest == self._digest
        rows = self._exchange.all_gather([same, busy, token, fault])
        for row in rows:
            raise_failure(row[3])
        cached = all(row[0] for row in rows)
        if not cached:
            self._share = None
            self._share = self._new_share(layout)
            self._digest = digest
        assert self._share is not None
        try:
            attempt = attempt_name(version, self._generation, rows[0][2])
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        return Agreement(attempt, self._share, any(row[1] for row in rows), cached)

    def _new_share(self, layout: JSON) -> Share:
        gathered = self._exchange.gather(layout)
        kinds: Kinds = {}
        writers: list[int] = []
        shares: list[JSON] | None = None
        if gathered is not None:
            layouts = [[group_of(row) for row in rows] for rows in gathered]
            kinds = {n: group[:2] for layout in layouts for group in layout for n in group.names}
            try:
                plan = assign(layouts)
            except CheckpointError as error:
                shares = [failure(error)] * len(layouts)
            else:
                total = sum(_bytes(dtype, shape) for dtype, shape in kinds.values())
                writers = [rank for rank, groups in enumerate(plan) if groups]
                shares = [[block_bytes(total), total, groups] for groups in plan]
        share = self._exchange.scatter(shares)
        raise_failure(share)
        block, total, groups = share
        entries = entries_of(group_of(row) for row in groups)
        return Share(block, total, entries, kinds, writers)


def _bytes(dtype: str, shape: Sequence[int]) -> int:
    return math.prod(shape) * ELEMENT_TYPES[dtype].size
