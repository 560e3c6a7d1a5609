"""Who sits where in the next generation. Little moves: ranks that stay need no new state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rendezvous.generation import Member


def seat(previous: Iterable[Member], ready: Mapping[str, Member], count: int) -> tuple[Member, ...]:
    """The `count` members of the next generation in the order of their ranks.

    `ready` holds who can take part, in the order in which they joined; count ≤ len(ready).

    Survivors of the previous generation come before newcomers and keep their order; if there are
    too many, the last ones go. A lost node's place is taken by a newcomer with as many slots, so
    that the ranks after it stay what they are: the node itself, if it came back, or else who has
    waited longest. Other newcomers go to the end.
    """
    places = [(before, ready.get(before.node)) for before in previous]
    kept = {before.node for before, now in places if now and now.incarnation == before.incarnation}
    surplus = len(kept) - count
    for before, _ in reversed(places):
        if surplus <= 0:
            break
        if before.node in kept:
            kept.remove(before.node)
            surplus -= 1
    missing = count - len(kept)
    waiting = {node: member for node, member in ready.items() if node not in kept}
    seats: list[Member] = []
    for before, now in places:
        if before.node in kept and now is not None:
            seats.append(now)
        elif missing:
            heir = _heir(before, waiting)
            if heir is not None:
                seats.append(waiting.pop(heir))
                missing -= 1
    newcomers = iter(waiting.values())
    seats.extend(next(newcomers) for _ in range(missing))
    return tuple(seats)


def _heir(lost: Member, waiting: Mapping[str, Member]) -> str | None:
    back = waiting.get(lost.node)
    if back is not None and back.slots == lost.slots:
        return lost.node
    return next((node for node, member in waiting.items() if member.slots == lost.slots), None)
