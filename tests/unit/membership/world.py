"""One job and its agents, with what lies between them: messages late, twice and out of order."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from rendezvous.generation import Generation
from rendezvous.membership import (
    AskBoundary,
    AskDrain,
    Beat,
    DrainAsked,
    DrainDone,
    Effect,
    Event,
    JobSpec,
    Join,
    KeepSpare,
    Leave,
    Left,
    Listening,
    Membership,
    NewLeader,
    Persist,
    Publish,
    Record,
    Refuse,
    Running,
    StreamLost,
    Tick,
)
from rendezvous.membership.view import NodeView
from tests.unit.membership.promises import Promises

NAMES = "abcdef"
BEAT = 0.3
ROUNDS = 12
QUIET = 6.0


@dataclass(slots=True)
class Agent:
    """What a well-behaved agent knows of itself, and on which stream its join has arrived."""

    node: str
    incarnation: int
    stream: int = 0
    arrived: int = 0
    connected: bool = False
    silent: bool = False
    heard: int = 0
    member: bool = False
    phase: str = ""
    asked: int = 0
    draining: bool = False
    gone: bool = False
    sockets: int = 0
    next_socket: str = ""

    @property
    def healthy(self) -> bool:
        return self.connected and not self.silent and not self.gone

    def who(self) -> dict[str, Any]:
        return {"node": self.node, "incarnation": self.incarnation}

    def socket(self) -> str:
        """Opens another one."""
        self.sockets += 1
        self.next_socket = f"{self.node}:{self.incarnation}.{self.sockets}"
        return self.next_socket


@dataclass(slots=True)
class World:
    """The membership's promises are checked at each step; `broken` once one was not kept."""

    spec: JobSpec
    membership: Membership = field(default_factory=lambda: Membership(lambda: "a secret"))
    now: float = 50.0
    agents: dict[str, Agent] = field(default_factory=dict)
    lives: dict[str, int] = field(default_factory=dict)
    record: Record | None = None
    late: list[Event] = field(default_factory=list)
    sent: list[Event] = field(default_factory=list)
    streams: int = 0
    broken: bool = False
    answers: list[Event] = field(default_factory=list)
    promises: Promises = field(init=False)
    _nodes: dict[str, NodeView] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.promises = Promises(self.spec)
        self.step(NewLeader(record=None))

    def healthy(self, name: str) -> Agent | None:
        """The node's agent if it is there and heard."""
        agent = self.agents.get(name)
        return agent if agent is not None and agent.healthy else None

    # The network

    def send(self, event: Event, *, delayed: bool = False) -> None:
        self.sent.append(event)
        if delayed:
            self.late.append(event)
        else:
            self.step(event)

    def step(self, event: Event) -> None:
        self.promises.hear(event)
        if isinstance(event, Join) and self.agents[event.node].incarnation == event.incarnation:
            self.agents[event.node].arrived = event.stream
        self.broken = True
        effects = self.membership.step(event, self.now)
        # Most events are beats of which nothing follows.
        if effects or not isinstance(event, Beat):
            self._check(event, effects)
        self.broken = False
        for effect in effects:
            self.carry_out(effect)
        while self.answers:
            self.send(self.answers.pop(0))

    def _check(self, event: Event, effects: tuple[Effect, ...]) -> None:
        view = self.membership.view(self.now)
        before, self._nodes = self._nodes, {node.node: node for node in view.nodes}
        if view.ended is not None:
            # A stopped job that is resumed is as large as its spec says.
            self.promises.target = None
        if isinstance(event, NewLeader) or view.ended is not None:
            return
        if not isinstance(event, Leave):
            for name, agent in self.agents.items():
                old = before.get(name)
                if agent.healthy and old and old.incarnation == agent.incarnation:
                    self.promises.stays(old, view, event)
        new = view.generation
        if new is not None and new.number not in self.promises.published:
            self.promises.began(new, effects, before, self._nodes)

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Persist():
                plain = json.loads(json.dumps(effect.record.to_dict()))
                assert Record.from_dict(plain) == effect.record
                self.record = effect.record
            case Publish():
                for name in effect.to:
                    self.hear(name, effect.generation)
            case AskBoundary():
                for name in effect.to:
                    agent = self.listener(name)
                    if agent and agent.heard == effect.generation:
                        agent.asked = effect.generation
            case KeepSpare():
                if agent := self.listener(effect.node):
                    agent.member, agent.phase = False, ""
            case AskDrain():
                if agent := self.listener(effect.node):
                    agent.draining = True
            case DrainDone():
                if agent := self.listener(effect.node):
                    assert agent.draining, f"{agent.node} may go, and was not asked to"
                    agent.gone = True
            case Refuse():
                agent = self.agents.get(effect.node)
                if agent and agent.incarnation == effect.incarnation:
                    agent.connected = False
                    agent.gone = agent.gone or not effect.retryable

    def listener(self, name: str) -> Agent | None:
        """Who hears what is said to the node."""
        agent = self.agents.get(name)
        heard = agent is not None and agent.connected and agent.arrived == agent.stream
        return agent if heard else None

    def hear(self, name: str, generation: Generation) -> None:
        agent = self.listener(name)
        if agent is None or generation.number <= agent.heard:
            return
        agent.heard = generation.number
        seat = generation.group_rank(name)
        mine = seat is not None and generation.members[seat].incarnation == agent.incarnation
        agent.member, agent.phase = mine, "entering" if mine else ""
        agent.next_socket = "" if mine else agent.next_socket
        if mine and seat == 0:
            self.promises.serves(generation)
        if mine and not agent.silent:
            self.answers.append(self.listening(agent))

    # What agents do

    def join(self, name: str, *, fresh: bool, delayed: bool = False) -> None:
        agent = self.agents.get(name)
        if agent is None or fresh or agent.gone:
            self.lives[name] = self.lives.get(name, 0) + 1
            agent = self.agents[name] = Agent(name, self.lives[name])
        self.streams += 1
        agent.stream = self.streams
        agent.connected, agent.silent = True, False
        event = Join(
            slots=1 + NAMES.index(name) % 2,
            host=name,
            store_endpoint=agent.next_socket or agent.socket(),
            spec=self.spec,
            generation=agent.heard,
            stream=agent.stream,
            **agent.who(),
        )
        if delayed:
            agent.silent = True
        self.send(event, delayed=delayed)
        if agent.connected and agent.member:
            # What it has said about this generation, it says again.
            self.send(self.listening(agent))
            if agent.phase == "running":
                self.send(Running(generation=agent.heard, **agent.who()))
            if agent.phase == "left":
                self.send(Left(generation=agent.heard, version=7, **agent.who()))
        if agent.connected and agent.draining and not agent.gone:
            self.send(DrainAsked(grace=20.0, reason="SIGTERM", **agent.who()))

    def listening(self, agent: Agent) -> Listening:
        return Listening(generation=agent.heard, store_endpoint=agent.socket(), **agent.who())

    def cut(self, name: str, *, crash: bool, delayed: bool = False) -> None:
        agent = self.agents[name]
        agent.connected = False
        agent.gone = agent.gone or crash
        self.send(StreamLost(stream=agent.stream, **agent.who()), delayed=delayed)

    def enter(self, agent: Agent, *, delayed: bool = False) -> None:
        if agent.phase == "entering":
            agent.phase = "running"
            self.send(Running(generation=agent.heard, **agent.who()), delayed=delayed)

    def leave_boundary(self, agent: Agent, *, delayed: bool = False) -> None:
        agent.phase = "left"
        self.send(Left(generation=agent.heard, version=7, **agent.who()), delayed=delayed)

    def after(self, seconds: float) -> None:
        """Time passes in small steps; healthy agents beat, and the service ticks in time."""
        end = self.now + seconds
        beat_at = self.now
        stuck = 0
        while True:
            if beat_at <= self.now:
                beat_at = self.now + BEAT
                for agent in list(self.agents.values()):
                    if agent.healthy:
                        self.step(Beat(**agent.who()))
            deadline = self.membership.next_deadline()
            stop = min(end, beat_at, end if deadline is None else max(deadline, self.now))
            stuck = stuck + 1 if stop == self.now else 0
            assert stuck < 20, "a deadline that passes must not come back"
            self.now = stop
            self.step(Tick())
            if self.now >= end:
                return

    def new_leader(self) -> None:
        # A connection is to one service; what opens it is lost with it.
        self.late = [event for event in self.late if not isinstance(event, Join)]
        text = json.dumps(self.record.to_dict()) if self.record else None
        self.membership = Membership(lambda: "a secret")
        for agent in self.agents.values():
            agent.connected = False
        self.step(NewLeader(record=Record.from_dict(json.loads(text)) if text else None))

    def settle(self) -> str:
        """The noise ends: what is late arrives, everybody comes back and does what is asked.

        Returns what the membership then still owes; empty if all is well, and stays so.
        """
        for event in self.late:
            self.step(event)
        self.late.clear()
        owed = "quiet"
        for _ in range(ROUNDS):
            before, idle = owed, self._round()
            owed = self._owed()
            if idle and not owed and not before:
                break
        return owed

    def _owed(self) -> str:
        if self.membership.ended is not None or self.record is None:
            return ""
        return self.promises.unkept(self.membership.view(self.now))

    def _round(self) -> bool:
        """Some quiet seconds; whether nobody had anything to do in them."""
        idle = True
        for name, agent in list(self.agents.items()):
            if not agent.gone and not agent.healthy:
                self.join(name, fresh=False)
                idle = False
        self.after(QUIET)
        for agent in list(self.agents.values()):
            if agent.healthy and agent.member:
                idle &= agent.phase != "entering"
                self.enter(agent)
                if agent.asked == agent.heard and agent.phase == "running":
                    self.leave_boundary(agent)
                    idle = False
        return idle
