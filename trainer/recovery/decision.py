"""From what ranks need and what survivors can give to one version and a list of moves. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from trainer.checkpoint.geometry import Box, intersect
from trainer.checkpoint.move import Move

Boxes = Mapping[str, Sequence[Box]]
Kind = Literal["worker", "mirror"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What `rank`, on `node`, has to hold before it can train."""

    rank: int
    node: str
    boxes: Boxes


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """State of one version that `rank` can read: its own from before, or a mirror on its node.

    `made_in` is the generation that made the version: one that was made twice is not the same.
    `key` tells the offers of one rank apart. `lacks` are names that some rank needs, and that the
    version does not have at all: nobody waits for these.
    """

    version: int
    made_in: int
    rank: int
    node: str
    kind: Kind
    key: str
    boxes: Boxes
    lacks: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The state to go on from, and how it gets where it is needed."""

    version: int
    made_in: int
    source: Literal["peers", "mirror"]
    moves: tuple[Move, ...]


def decide(needs: Sequence[Need], offers: Sequence[Offer], *, above: int = -1) -> Recovery | None:
    """The newest version past `above` that the offers hold whole; None when there is none.

    Of a version that was made twice, the later one; they are never put together.

    `above` is the version that storage has to be older than for memory to be worth taking.
    Each box comes from the nearest offer: the rank itself, its node, then the other nodes by
    turns, so that no survivor serves everybody.
    """
    known = {(offer.version, offer.made_in) for offer in offers if offer.version > above}
    for version, made_in in sorted(known, reverse=True):
        candidates = [o for o in offers if (o.version, o.made_in) == (version, made_in)]
        moves = _cover(_there(needs, candidates), candidates)
        if moves is not None:
            used = {(move.source, move.key) for move in moves}
            mirrored = any(
                offer.kind == "mirror" and (offer.rank, offer.key) in used for offer in candidates
            )
            return Recovery(
                version=version,
                made_in=made_in,
                source="mirror" if mirrored else "peers",
                moves=tuple(moves),
            )
    return None


def _there(needs: Sequence[Need], offers: Sequence[Offer]) -> Sequence[Need]:
    """What the version that is offered can be asked for."""
    lacks = {name for offer in offers for name in offer.lacks}
    if not lacks:
        return needs
    return [
        replace(need, boxes={n: boxes for n, boxes in need.boxes.items() if n not in lacks})
        for need in needs
    ]


def _cover(needs: Sequence[Need], offers: Sequence[Offer]) -> list[Move] | None:
    holders: dict[str, list[tuple[Offer, Box]]] = defaultdict(list)
    for offer in offers:
        for name, boxes in offer.boxes.items():
            holders[name].extend((offer, box) for box in boxes)
    own = {(o.rank, name, box): o for o in offers for name, bs in o.boxes.items() for box in bs}
    moves: list[Move] = []
    for need in needs:
        for name, boxes in need.boxes.items():
            for box in boxes:
                if (mine := own.get((need.rank, name, box))) is not None:
                    moves.append(_move(name, box, mine, need))
                    continue
                found = _cover_box(name, box, need, holders.get(name, ()))
                if found is None:
                    return None
                moves += found
    return moves


def _cover_box(
    name: str, box: Box, need: Need, holders: Sequence[tuple[Offer, Box]]
) -> list[Move] | None:
    """Pieces of `box` from the nearest holders, each element once; None where one is missing."""
    ranks = 1 + max((offer.rank for offer, _ in holders), default=0)

    def distance(holder: tuple[Offer, Box]) -> tuple[bool, bool, bool, int]:
        offer, _ = holder
        return (
            offer.rank != need.rank,
            offer.node != need.node,
            offer.kind != "worker",
            (offer.rank - need.rank) % ranks,
        )

    missing = [box]
    moves: list[Move] = []
    for offer, held in sorted(holders, key=distance):
        rest: list[Box] = []
        for part in missing:
            common = intersect(part, held)
            if common is None:
                rest.append(part)
                continue
            moves.append(_move(name, common, offer, need))
            rest.extend(subtract(part, common))
        missing = rest
        if not missing:
            return moves
    return None if missing else moves


def _move(name: str, box: Box, offer: Offer, need: Need) -> Move:
    return Move(name=name, box=box, source=offer.rank, key=offer.key, target=need.rank)


def subtract(box: Box, hole: Box) -> Iterator[Box]:
    """What is left of `box` without `hole`, which lies within it, as boxes that don't overlap."""
    offsets, sizes = list(box.offsets), list(box.sizes)
    for dim in range(len(sizes)):
        start, end = offsets[dim], offsets[dim] + sizes[dim]
        low, high = hole.offsets[dim], hole.offsets[dim] + hole.sizes[dim]
        for a, b in ((start, low), (high, end)):
            if a < b:
                yield Box(
                    (*offsets[:dim], a, *offsets[dim + 1 :]),
                    (*sizes[:dim], b - a, *sizes[dim + 1 :]),
                )
        offsets[dim], sizes[dim] = low, high - low
