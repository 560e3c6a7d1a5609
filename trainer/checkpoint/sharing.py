"""Who reads what of a checkpoint: replicas read a part each, and give it to the others. Pure.

Reading is shared where it is dear: from an object store, or where the holders of a box are on
several hosts, each of which would fetch it over the network. On one host the second reader of a
file finds it in the page cache, and no exchange is as fast as that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trainer.checkpoint.move import Move
from trainer.checkpoint.plan import Family, Group, families, place

LEAST_SHARED = 1 << 20
"""Below so many bytes an exchange costs more than reading them again."""

KEY = ""


@dataclass(slots=True)
class Reading:
    """What one rank reads from storage, and the moves by which it gives and gets the rest."""

    reads: list[Group] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)


def worth_asking(hosts: Sequence[str], *, remote: bool) -> bool:
    """Whether any reading could be shared, whatever the ranks hold. `hosts[rank]` is its host."""
    return len(hosts) > 1 and (remote or len(set(hosts)) > 1)


def share(
    layouts: Sequence[Sequence[Group]], hosts: Sequence[str], *, remote: bool
) -> list[Reading] | None:
    """Each rank's part; None where every rank had better read all that it holds.

    `layouts[rank]` is what it holds, on `hosts[rank]`; `remote` says that every read crosses a
    network. Raises CheckpointError when two ranks disagree about a tensor.
    """
    found = families(layouts)
    dear = [family for family in found if _is_dear(family, hosts, remote)]
    if sum(family.bytes * len(family.names) for family in dear) < LEAST_SHARED:
        return None
    readings = [Reading() for _ in layouts]
    alone = []
    for family in found:
        if len(family.ranks) == 1:
            alone.append(family)
        elif not _is_dear(family, hosts, remote):
            for rank in family.ranks:
                readings[rank].reads.append(family.group)
    for rank, family in place([*alone, *dear], len(layouts)):
        readings[rank].reads.append(family.group)
        for target in family.ranks:
            if target != rank:
                _give(readings, family, rank, target)
    return readings


def _is_dear(family: Family, hosts: Sequence[str], remote: bool) -> bool:
    return len(family.ranks) > 1 and (remote or len({hosts[rank] for rank in family.ranks}) > 1)


def _give(readings: Sequence[Reading], family: Family, source: int, target: int) -> None:
    for name in family.names:
        move = Move(name=name, box=family.box, source=source, key=KEY, target=target)
        readings[source].moves.append(move)
        readings[target].moves.append(move)
