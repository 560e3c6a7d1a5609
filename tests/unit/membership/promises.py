"""What membership promises of every step, whatever has happened before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rendezvous.generation import Generation
from rendezvous.membership import Effect, Event, JobSpec, Join, Persist, Publish, ScaleAsked
from rendezvous.membership.view import JobView, NodeView


@dataclass(slots=True)
class Promises:
    """Sees each event and what came of it; raises AssertionError."""

    spec: JobSpec
    published: dict[int, Generation] = field(default_factory=dict)
    target: int | None = None
    _served: dict[str, int] = field(default_factory=dict)
    _joined: set[tuple[str, int]] = field(default_factory=set)

    def hear(self, event: Event) -> None:
        """Before it happens."""
        if isinstance(event, Join):
            self._joined.add((event.node, event.incarnation))
        if isinstance(event, ScaleAsked) and event.nodes:
            fits = self.spec.fitting(event.nodes) == event.nodes
            self.target = event.nodes if fits else self.target

    def stays(self, node: NodeView, view: JobView, event: Event) -> None:
        """A node that stays alive is never removed."""
        if node.connected and node.node not in view.set_aside:
            here = any(after.node == node.node for after in view.nodes)
            assert here, f"{node.node} stayed alive and was removed by {event}"

    def serves(self, generation: Generation) -> None:
        """The first node of a generation has heard of it, and opens the store."""
        number = self._served.setdefault(generation.store_endpoint, generation.number)
        assert number == generation.number, f"a socket serves {number} and {generation.number}"

    def began(
        self,
        new: Generation,
        effects: tuple[Effect, ...],
        before: Mapping[str, NodeView],
        after: Mapping[str, NodeView],
    ) -> None:
        """A new generation is stored first, numbered anew, of the right size, and in order."""
        assert isinstance(effects[0], Persist), "told before it was stored"
        assert any(isinstance(e, Publish) and e.generation is new for e in effects)
        last = max(self.published, default=0)
        assert new.number > last, f"{new.number} after {last}: numbers grow and are used once"
        names = [member.node for member in new.members]
        assert len(set(names)) == len(names), f"a node has two seats: {names}"
        assert self.spec.min_nodes <= len(names) <= self.spec.max_nodes, f"{len(names)} nodes"
        assert len(names) % self.spec.node_multiple == 0, f"{len(names)} nodes"
        slots = [member.slots for member in new.members]
        ranks = [new.first_rank(name) for name in names]
        assert ranks == [sum(slots[:i]) for i in range(len(slots))], f"ranks with gaps: {ranks}"
        for member in new.members:
            assert (member.node, member.incarnation) in self._joined, f"{member} never joined"
            assert after[member.node].incarnation == member.incarnation, f"{member} is not here"
        assert new.store_endpoint, "no socket for the store"
        assert new.store_endpoint not in self._served, f"a socket serves one generation: {new}"
        if last:
            self._survivors(self.published[last], new, before, after)
        self.published[new.number] = new

    def _survivors(
        self,
        last: Generation,
        new: Generation,
        before: Mapping[str, NodeView],
        after: Mapping[str, NodeView],
    ) -> None:
        """They keep their order, and none goes who need not."""
        lives = {(member.node, member.incarnation) for member in new.members}
        stayed = [m.node for m in last.members if (m.node, m.incarnation) in lives]
        survivors = set(stayed)
        order = [m.node for m in new.members if m.node in survivors]
        assert order == stayed, f"survivors moved: {stayed} to {order}"
        dropped = [
            m.node
            for m in last.members
            if m.node not in survivors
            and m.node in after
            and m.node in before
            and before[m.node].phase != "spare"
            and not after[m.node].draining
            and after[m.node].incarnation == m.incarnation
        ]
        if dropped:
            assert len(survivors) == len(new.members), f"{dropped} had to go for newcomers"
            here = sum(n.connected and not n.draining for n in after.values())
            assert self.fitting(here) == len(new.members), f"{dropped} need not have gone"

    def fitting(self, nodes: int) -> int:
        """How many of `nodes` may be in a generation."""
        return self.spec.fitting(nodes if self.target is None else min(nodes, self.target))

    def unkept(self, view: JobView) -> str:
        """What is still owed when all is quiet; empty if nothing is."""
        able = [n for n in view.nodes if n.connected and not n.draining]
        fitting = self.fitting(len(able))
        if view.active != (fitting > 0):
            return "enough nodes, and nothing happens" if fitting else "a generation of too few"
        finishing = any(node.phase == "finished" for node in view.nodes)
        if view.generation is None or not view.active or finishing:
            return ""
        members = {member.node for member in view.generation.members}
        if not members <= {node.node for node in able}:
            return "a generation of nodes that are gone"
        return (
            "" if len(members) == fitting else f"{len(members)} nodes, there is room for {fitting}"
        )
