"""When a round of plain torchrun ends and the next begins, and why. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One agent that is alive. `joining` is the round it asks for, or is in; `arrived` orders
    newcomers; `endpoint` is where it listens, should it come to host the round's store."""

    id: str
    arrived: int
    joining: int
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Who trains together. The order of `members` is the order of ranks; the first hosts `store`.

    Number 0, without members, stands for "none yet".
    """

    number: int
    members: tuple[str, ...]
    store: str
    reason: str


NO_ROUND = Round(number=0, members=(), store="", reason="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What torchrun was told: bounds, and how long (s) to wait for more nodes than the fewest."""

    min_nodes: int
    max_nodes: int
    last_call: float


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is known: who is alive, the last round, and whether it is over."""

    nodes: Mapping[str, Node]
    current: Round
    over: bool

    def waiting(self) -> list[Node]:
        """Survivors who ask for the next round, in the order they had, then newcomers."""
        members = [self.nodes[m] for m in self.current.members if m in self.nodes]
        back = [node for node in members if node.joining > self.current.number]
        fresh = [node for node in self.nodes.values() if node.id not in self.current.members]
        return back + sorted(fresh, key=lambda node: node.arrived)


@dataclass(frozen=True, slots=True)
class End:
    """The current round is over."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Publish:
    """This is the next round."""

    round: Round


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before something changes, or `until`."""

    reason: str
    until: float | None = None


Decision: TypeAlias = End | Publish | Wait


def decide(view: View, terms: Terms, quorum_since: float | None, now: float) -> Decision:
    """`quorum_since` is when enough nodes were waiting, None while there are not."""
    if view.current.members and not view.over:
        return _running(view, terms)
    return _forming(view, terms, quorum_since, now)


def _running(view: View, terms: Terms) -> Decision:
    current, nodes = view.current, view.nodes
    if lost := [member for member in current.members if member not in nodes]:
        return End(current.number, f"lost {', '.join(lost)}")
    waiting = view.waiting()
    if back := [node.id for node in waiting if node.id in current.members]:
        return End(current.number, f"{', '.join(back)} restarts its workers")
    if waiting and len(current.members) < terms.max_nodes:
        return End(current.number, f"{waiting[0].id} joins")
    return Wait(f"{len(current.members)} nodes train, {len(waiting)} are spare")


def _forming(view: View, terms: Terms, quorum_since: float | None, now: float) -> Decision:
    waiting = view.waiting()
    if len(waiting) < terms.min_nodes or quorum_since is None:
        return Wait(f"{len(waiting)} nodes of at least {terms.min_nodes} wait")
    survivors = [member for member in view.current.members if member in view.nodes]
    absent = [m for m in survivors if view.nodes[m].joining <= view.current.number]
    full = len(waiting) >= terms.max_nodes
    # Only those who meet for the first time wait for strangers; later ones can join a round later.
    if not absent and (full or survivors):
        return Publish(_next(view, terms, waiting))
    last_call = quorum_since + terms.last_call
    if now >= last_call:
        return Publish(_next(view, terms, waiting))
    awaited = ", ".join(absent) if absent else "more nodes"
    return Wait(f"{len(waiting)} nodes wait for {awaited}", last_call)


def _next(view: View, terms: Terms, waiting: list[Node]) -> Round:
    chosen = waiting[: terms.max_nodes]
    before = set(view.current.members)
    after = {node.id for node in chosen}
    gone, come = sorted(before - after), sorted(after - before)
    changes = [f"without {', '.join(gone)}"] * bool(gone) + [f"with {', '.join(come)}"] * bool(come)
    return Round(
        number=view.current.number + 1,
        members=tuple(node.id for node in chosen),
        store=chosen[0].endpoint,
        reason="; ".join(changes) if changes else "the same nodes again",
    )
