"""The ranks agree on who writes what; while nothing moves, the last plan serves again."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash

from trainer.checkpoint.datafile import BoxEntry
from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.geometry import Box
from trainer.checkpoint.outcome import failure, raise_failure
from trainer.checkpoint.plan import Layout, assign, block_bytes
from trainer.checkpoint.tensors import LocalTensor
from trainer.errors import CheckpointError

JSON = Any
Kinds = Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Share:
    """What this rank writes. `kinds` of all tensors and `writers` are known at rank 0 alone."""

    block: int
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

    def agree(
        self,
        version: int,
        local: Mapping[str, LocalTensor],
        *,
        fault: JSON = None,
        busy: bool = False,
    ) -> Agreement:
        """Collective. Raises, on every rank, any rank's `fault`; CheckpointError for a layout."""
        layout = {
            name: [item.dtype, item.shape, [part.box for part in item.parts]]
            for name, item in local.items()
        }
        digest = xxhash.xxh3_128_hexdigest(json.dumps(layout).encode())
        token = secrets.token_hex(4) if self._exchange.rank == 0 else ""
        same = self._share is not None and digest == self._digest
        rows = self._exchange.all_gather([same, busy, token, fault])
        for row in rows:
            raise_failure(row[3])
        cached = all(row[0] for row in rows)
        if not cached:
            self._share = None
            self._share = self._new_share(layout, local)
            self._digest = digest
        assert self._share is not None
        attempt = f"v{version:08d}-g{self._generation:05d}-{rows[0][2]}"
        return Agreement(attempt, self._share, any(row[1] for row in rows), cached)

    def _new_share(self, layout: JSON, local: Mapping[str, LocalTensor]) -> Share:
        gathered = self._exchange.gather(layout)
        kinds: Kinds = {}
        writers: list[int] = []
        shares: list[JSON] | None = None
        if gathered is not None:
            layouts = [layout_of(rows) for rows in gathered]
            kinds = {name: held[:2] for layout in layouts for name, held in layout.items()}
            try:
                plan = assign(layouts)
            except CheckpointError as error:
                shares = [failure(error)] * len(layouts)
            else:
                block = block_bytes(sum(entry.bytes for entries in plan for entry in entries))
                writers = [rank for rank, entries in enumerate(plan) if entries]
                shares = [[block, [[e.name, *e.box] for e in entries]] for entries in plan]
        share = self._exchange.scatter(shares)
        raise_failure(share)
        entries = [
            BoxEntry(name, local[name].dtype, local[name].shape, Box(tuple(o), tuple(s)))
            for name, o, s in share[1]
        ]
        return Share(share[0], entries, kinds, writers)


def layout_of(rows: Mapping[str, JSON]) -> Layout:
    """A rank's layout from its JSON."""
    return {
        name: (dtype, tuple(shape), tuple(Box(tuple(o), tuple(s)) for o, s in boxes))
        for name, (dtype, shape, boxes) in rows.items()
    }
