"""One job as its leader knows it: the record, and what need not survive a leader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from rendezvous.generation import Generation, Member
from rendezvous.membership.effects import (
    AskBoundary,
    AskDrain,
    DrainDone,
    Effect,
    EndJob,
    KeepSpare,
    Note,
    Publish,
    Refuse,
)
from rendezvous.membership.events import WorkerFailed
from rendezvous.membership.patience import TINY, Clock, Missed
from rendezvous.membership.record import Ended, Record
from rendezvous.membership.spec import JobSpec


class Phase(Enum):
    """Where a node stands. All but SPARE are about the generation that it has a seat in."""

    SPARE = "spare"
    ENTERING = "entering"
    RUNNING = "running"
    LEFT = "left"
    FINISHED = "finished"


@dataclass(slots=True, kw_only=True)
class Node:
    """One life of one node.

    `member` is how it would enter the next generation; `fresh` is whether the store endpoint in
    it was never used. `heard` is the newest generation that it has said it knows. `stateful` means
    that it has been in a generation, so that it has state to hand over.
    """

    member: Member
    joined: int
    stream: int = 0
    heard: int = 0
    phase: Phase = Phase.SPARE
    fresh: bool = False
    stateful: bool = False
    version: int = -1
    stepped: bool = False
    """Whether a step was done on it, as far as it said."""
    draining: bool = False
    drain_ends: float = 0.0
    drained: bool = False
    handed_over: bool = False
    finish: str = ""

    @property
    def seated(self) -> bool:
        return self.phase is not Phase.SPARE


@dataclass(slots=True, kw_only=True)
class Boundary:
    """The members were asked to leave at the next step boundary.

    `going`: members that the next generation will be without, as far as it can be told.
    `drains`: those of them that drain.
    """

    reasons: list[str]
    deadline: float
    going: tuple[str, ...] = ()
    drains: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrecorded:
    """Live members are in generation `number`, newer than the record; see `unrecorded`."""

    number: int
    stored: int
    """Number of the generation that the store knew, 0 for none."""
    ended: str
    """How the job had ended by what the store knew; empty if it had not."""
    until: float
    """When all who may be in it have had the time to come back."""

    @property
    def reason(self) -> str:
        """From where to where the store went back, for people."""
        if not self.stored:
            return f"the members are in generation {self.number}, and the store knows of none"
        then = f", in which the job has {self.ended}" if self.ended else ""
        return (
            f"the store went back from generation {self.number}, which its members are in, "
            f"to generation {self.stored}{then}"
        )


@dataclass(slots=True)
class Job:
    """The state, and the small moves on it that keep its counts right.

    `streams` holds the newest life and stream on which each node has joined; `seats` the life and
    the generation of those who had a seat and may not have heard of it. `ready` holds the nodes
    that can have a seat in the next generation; `phases` counts those that have one in this.
    `agreed` is when it was first said, and with which status, that all ranks of the active
    generation have agreed to be done.
    `alarm` is when something is due although nothing happens. `secrets` gives each generation its
    own.
    """

    secrets: Callable[[], str]
    record: Record | None = None
    clock: Clock = field(default_factory=Clock)
    effects: list[Effect] = field(default_factory=list)
    nodes: dict[str, Node] = field(default_factory=dict)
    lives: dict[str, int] = field(default_factory=dict)
    streams: dict[str, tuple[int, int]] = field(default_factory=dict)
    seats: dict[str, tuple[int, Generation]] = field(default_factory=dict)
    ready: set[str] = field(default_factory=set)
    phases: Counter[Phase] = field(default_factory=Counter)
    beating: Missed = field(default_factory=Missed)
    doubted: Missed = field(default_factory=Missed)
    absent: Missed = field(default_factory=Missed)
    outage: bool = False
    joins: int = 0
    heard_number: int = 0
    newest: int = 0
    """The newest generation in which a member said it was though the store did not know it."""
    unrecorded: Unrecorded | None = None
    """While members are in it."""
    alarm: float | None = None

    began: float = 0.0
    grown: float = 0.0
    forming: float = 0.0
    first: bool = True
    started: bool = False
    enough: float | None = None
    unready: float | None = None
    deserted: tuple[float, str, int, str] | None = None
    boundary: Boundary | None = None
    agreed: tuple[float, str] | None = None
    lost: list[str] = field(default_factory=list)
    failed: list[WorkerFailed] = field(default_factory=list)
    failed_since: float = 0.0
    """When the first of them was heard."""

    @property
    def now(self) -> float:
        return self.clock.now

    @property
    def known(self) -> Record:
        assert self.record is not None
        return self.record

    @property
    def spec(self) -> JobSpec:
        return self.known.spec

    @property
    def number(self) -> int:
        """Of the last generation, be it in the record or not; 0 before the first."""
        record = self.record
        stored = record.generation.number if record and record.generation else 0
        return max(stored, self.newest)

    @property
    def standing(self) -> int:
        """Of the generation that members are in now; 0 if there is none."""
        return self.number if self.unrecorded is not None or self.active is not None else 0

    @property
    def active(self) -> Generation | None:
        """The generation that stands, if there is one and its members are known."""
        return self.record.generation if self.record and self.record.active else None

    @property
    def seated(self) -> int:
        """How many members of the active generation are still there."""
        return self.phases.total()

    @property
    def fitting(self) -> int:
        """How many nodes the next generation would have; 0 if there are too few."""
        target = self.known.target
        most = len(self.ready) if target is None else min(len(self.ready), target)
        return self.spec.fitting(most)

    @property
    def doubt(self) -> float:
        """How long a node with a broken stream may take to come back, in seconds.

        If most of them broke at once, it is the network, or us: nobody is accused in haste, until
        the last of them is back or lost.
        """
        return self.spec.beat_timeout if self.outage else self.spec.reconnect_grace

    # Effects

    def tell(self, effect: Effect) -> None:
        self.effects.append(effect)

    def note(self, node: str, reason: str) -> None:
        self.tell(Note(node=node, reason=reason))

    def keep_spare(self, node: str, reason: str) -> None:
        self.tell(KeepSpare(node=node, generation=self.number, reason=reason))

    def refuse(self, node: str, incarnation: int, reason: str, *, retryable: bool) -> None:
        self.tell(Refuse(node=node, incarnation=incarnation, reason=reason, retryable=retryable))

    def publish(self, generation: Generation, to: Iterable[str]) -> None:
        self.tell(Publish(generation=generation, to=tuple(to)))

    def ask_boundary(self, to: Iterable[str], boundary: Boundary) -> None:
        self.tell(
            AskBoundary(
                generation=self.number,
                reason="; ".join(boundary.reasons),
                to=tuple(to),
                going=boundary.going,
            )
        )

    def ask_drain(self, node: str) -> None:
        drain = self.known.drains[node]
        left = max(0.0, self.nodes[node].drain_ends - self.now)
        self.tell(AskDrain(node=node, grace=left, reason=drain.reason))

    def drain_done(self, node: str, reason: str, *, handed_over: bool) -> None:
        self.nodes[node].drained = True
        self.nodes[node].handed_over = handed_over
        self.tell(DrainDone(node=node, handed_over=handed_over, reason=reason))

    def end(self, status: str, reason: str, *, by: str) -> None:
        """The job is over; nothing is waited for any more."""
        ended = Ended(status=status, reason=reason, by=by)
        self.write(generation=self.as_known(), ended=ended, active=False, drains={})
        self.tell(EndJob(status=status, reason=reason, to=tuple(self.nodes)))
        for node in list(self.nodes):
            self.drop(node)
        self.forget_generation()

    def write(self, **changes: Any) -> None:
        self.record = replace(self.known, **changes)

    def as_known(self) -> Generation | None:
        """What to store of the last generation where no other follows at once: one that was not
        recorded is from here on, so that nobody takes it for newer again."""
        told = self.unrecorded
        members = tuple(node.member for node in self.nodes.values() if node.seated)
        if told is None or not members:
            return self.known.generation
        return Generation(number=told.number, members=members, reason=told.reason)

    def due(self, deadline: float) -> bool:
        """Whether it is time; if not, the alarm is set."""
        if deadline <= self.now + TINY:
            return True
        self.alarm = deadline if self.alarm is None else min(self.alarm, deadline)
        return False

    # Nodes

    def remember_seats(self) -> None:
        if generation := self.known.generation:
            self.seats.update((m.node, (m.incarnation, generation)) for m in generation.members)

    def heard(self, node: str, incarnation: int, generation: int) -> None:
        """The node has heard of that generation, if not of a newer one."""
        present = self.nodes.get(node)
        if present is not None and present.member.incarnation == incarnation:
            present.heard = max(present.heard, generation)
        life, seat = self.seats.get(node, (0, None))
        if seat is not None and life == incarnation and seat.number <= generation:
            del self.seats[node]

    def missed(self, node: str) -> Generation | None:
        """The last generation in which this life of the node had a seat, if it may not have heard
        of it."""
        life, generation = self.seats.get(node, (0, None))
        return generation if life == self.nodes[node].member.incarnation else None

    def is_late(self, node: str, generation: int) -> bool:
        """Whether what the node said of the time after that generation was said before a newer
        one, in which it may have had a seat."""
        missed = self.missed(node)
        newest = max(self.nodes[node].heard, 0 if missed is None else missed.number)
        return generation < newest

    def connected(self, node: str) -> bool:
        return node in self.beating

    def add(self, member: Member, *, stream: int) -> Node:
        self.joins += 1
        node = Node(member=member, joined=self.joins, stream=stream)
        self.nodes[member.node] = node
        self.lives[member.node] = max(member.incarnation, self.lives.get(member.node, 0))
        return node

    def drop(self, name: str) -> Node:
        """Forget a node; that it had a seat is the caller's business."""
        node = self.nodes.pop(name)
        if node.seated:
            self.phases[node.phase] -= 1
        for queue in (self.beating, self.doubted, self.absent):
            queue.forget(name)
        self.outage = self.outage and len(self.doubted) > 0
        self.ready.discard(name)
        return node

    def hear(self, name: str) -> None:
        """The node is connected, and alive now."""
        self.beating.hear(name, self.now)
        self.doubted.forget(name)
        self.absent.forget(name)
        self.outage = self.outage and len(self.doubted) > 0
        self.sort(name)

    def suspect(self, name: str) -> None:
        """The node's stream is broken."""
        self.beating.forget(name)
        self.doubted.hear(name, self.now)
        self.outage = self.outage or 2 * len(self.doubted) > len(self.nodes)
        self.sort(name)

    def sort(self, name: str) -> None:
        """Put the node among those that can have a seat, or not.

        A member keeps its chance while its stream is broken; a newcomer must be there.
        """
        node = self.nodes[name]
        if not node.draining and (node.seated or self.connected(name)):
            self.ready.add(name)
        else:
            self.ready.discard(name)

    def move(self, name: str, phase: Phase) -> None:
        node = self.nodes[name]
        if node.seated:
            self.phases[node.phase] -= 1
        node.phase = phase
        if node.seated:
            self.phases[phase] += 1
        self.sort(name)

    def forget_generation(self) -> None:
        """Nothing of what was said about the last generation counts for the next."""
        self.boundary = self.deserted = self.agreed = self.unready = self.enough = None
        self.unrecorded = None
        self.lost.clear()
        self.failed.clear()


def counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def listed(reasons: Iterable[str], most: int = 3) -> str:
    """The first few of them, and how many more there are."""
    reasons = list(reasons)
    more = f"; and {len(reasons) - most} more" if len(reasons) > most else ""
    return "; ".join(reasons[:most]) + more
