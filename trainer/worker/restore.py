"""Fill a new generation's state from the nearest whole source: peers, mirrors, storage, init."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist

from trainer.checkpoint import Checkpointer
from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.geometry import Box
from trainer.checkpoint.mismatch import Allowance
from trainer.checkpoint.move import Move
from trainer.checkpoint.movement import Holdings, carry_out
from trainer.checkpoint.tensors import LocalTensor
from trainer.recovery.decision import Kind, Need, Offer, Recovery, decide
from trainer.worker.numbers import latest
from trainer.worker.state import State

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """State of one version that this rank can read; `key` tells a rank's holdings apart."""

    key: str
    kind: Kind
    version: int
    tensors: Holdings
    made_in: int
    values: Mapping[str, Any]
    unchanged: Callable[[], bool] = lambda: True
    """Whether it still holds what it held when it was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What the state has been filled with, and from where."""

    version: int
    source: Literal["peers", "mirror", "storage"]


def restore(
    state: State,
    find: Callable[[], list[Held]],
    checkpointer: Checkpointer,
    *,
    node: str,
    exchange: Exchange,
    device: torch.device,
) -> Restored | None:
    """Collective. Returns None, with `state` as it was, where there is no source.

    `find` lists what this rank holds. Should a mirror be filled anew while it is read, all look
    again: what another node was still sending may arrive at any time.
    """
    stored = checkpointer.newest_version() if exchange.rank == 0 else None
    while True:
        held = find()
        agreed = _agree(held, state, node, exchange, above=-1 if stored is None else stored - 1)
        if agreed is None:
            break
        recovery, values = agreed
        lacks = set(state.lacks(values))
        state.fit([name for name in state.tensors() if name not in lacks], values)
        carry_out(
            recovery.moves,
            rank=exchange.rank,
            sources={holding.key: holding.tensors for holding in held},
            target=state.local,
            device=device,
            group=dist.group.WORLD,
        )
        # What was cut may have come as if it were whole; who holds that has no part in this answer.
        used = {move.key for move in recovery.moves if move.source == exchange.rank}
        sound = all(holding.unchanged() for holding in held if holding.key in used)
        if all(exchange.all_gather(sound)):
            state.become(recovery.version, values)
            return Restored(version=recovery.version, source=recovery.source)
        log.warning("a mirror was filled anew while it was being read; looking again")
    allowance = Allowance(untrained=state.untrained(), buffers=state.saved_buffers())
    loaded = checkpointer.load(state.fit, allowance=allowance)
    if loaded is None:
        return None
    state.become(loaded.version, loaded.values)
    return Restored(version=loaded.version, source="storage")


def _agree(
    held: list[Held], state: State, node: str, exchange: Exchange, *, above: int
) -> tuple[Recovery, Mapping[str, Any]] | None:
    """Rank 0 hears what everyone needs and has, decides, and tells each rank its own moves.

    The second is what was kept beside the tensors of the version that was chosen.
    """
    gathered = exchange.gather(
        {
            "node": node,
            "need": _boxes(state.local),
            "held": [
                {
                    "key": item.key,
                    "kind": item.kind,
                    "version": item.version,
                    "made_in": item.made_in,
                    "boxes": _boxes(item.tensors),
                    "values": item.values,
                    "lacks": list(state.lacks(item.values)),
                }
                for item in held
            ],
        }
    )
    answers: list[Any] | None = None
    if gathered is not None:
        recovery = decide(*_told(gathered), above=above)
        values = None
        if recovery is not None:
            items = (item for said in gathered for item in said["held"])
            chosen = (recovery.version, recovery.made_in)
            values = latest(i["values"] for i in items if (i["version"], i["made_in"]) == chosen)
        answers = [_answer(recovery, values, rank) for rank in range(exchange.world_size)]
    answer = exchange.scatter(answers)
    if answer is None:
        return None
    moves = tuple(
        Move(name=name, box=_box(box), source=source, key=key, target=into)
        for name, box, source, key, into in answer["moves"]
    )
    recovery = Recovery(
        version=answer["version"], made_in=answer["made_in"], source=answer["source"], moves=moves
    )
    return recovery, answer["values"]


def _told(gathered: list[Any]) -> tuple[list[Need], list[Offer]]:
    needs = [
        Need(rank=rank, node=said["node"], boxes=_unboxed(said["need"]))
        for rank, said in enumerate(gathered)
    ]
    offers = [
        Offer(
            version=item["version"],
            made_in=item["made_in"],
            rank=rank,
            node=said["node"],
            kind=item["kind"],
            key=item["key"],
            boxes=_unboxed(item["boxes"]),
            lacks=item["lacks"],
        )
        for rank, said in enumerate(gathered)
        for item in said["held"]
    ]
    return needs, offers


def _answer(recovery: Recovery | None, values: Any, rank: int) -> dict[str, Any] | None:
    if recovery is None:
        return None
    return {
        "version": recovery.version,
        "made_in": recovery.made_in,
        "source": recovery.source,
        "values": values,
        "moves": [
            [move.name, move.box, move.source, move.key, move.target]
            for move in recovery.moves
            if rank in (move.source, move.target)
        ],
    }


def _boxes(tensors: Mapping[str, LocalTensor]) -> dict[str, list[Box]]:
    return {name: [part.box for part in tensor.parts] for name, tensor in tensors.items()}


def _unboxed(boxes: Mapping[str, list[Any]]) -> dict[str, list[Box]]:
    return {name: [_box(box) for box in of_name] for name, of_name in boxes.items()}


def _box(plain: Any) -> Box:
    offsets, sizes = plain
    return Box(tuple(offsets), tuple(sizes))
