"""Random histories: whatever happens, in whatever order, the promises hold.

Nodes join, crash, fall silent, come back, drain, fail and finish; messages come late, twice and out
of order; clocks jump; leaders change. After each history the noise ends, and then there must be
progress.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from rendezvous.generation import Generation
from rendezvous.membership import (
    AskBoundary,
    AskDrain,
    Beat,
    DrainAsked,
    DrainDone,
    Effect,
    EndJob,
    Event,
    Finished,
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
    ScaleAsked,
    StreamLost,
    Tick,
    WorkerFailed,
)

NAMES = "abcdef"
BEAT = 0.3


@dataclass(slots=True)
class Agent:
    """What a well-behaved agent knows of itself."""

    node: str
    incarnation: int
    stream: int = 0
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
    """One job, its agents and what lies between them; checks each step."""

    spec: JobSpec
    membership: Membership = field(default_factory=Membership)
    now: float = 50.0
    agents: dict[str, Agent] = field(default_factory=dict)
    lives: dict[str, int] = field(default_factory=dict)
    record: Record | None = None
    published: dict[int, Generation] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    joined: set[tuple[str, int]] = field(default_factory=set)
    late: list[Event] = field(default_factory=list)
    sent: list[Event] = field(default_factory=list)
    target: int | None = None
    ended: bool = False
    streams: int = 0
    broken: bool = False
    answers: list[Event] = field(default_factory=list)

    # The network

    def send(self, event: Event, *, delayed: bool = False) -> None:
        self.sent.append(event)
        if delayed:
            self.late.append(event)
        else:
            self.step(event)

    def step(self, event: Event) -> None:
        if isinstance(event, Join):
            self.joined.add((event.node, event.incarnation))
        before = {node.node: node for node in self.membership.view(self.now).nodes}
        self.broken = True
        effects = self.membership.step(event, self.now)
        self.check(event, effects, before)
        self.broken = False
        for effect in effects:
            self.carry_out(effect)
        while self.answers:
            self.send(self.answers.pop(0))

    def check(self, event: Event, effects: tuple[Effect, ...], before: dict[str, Any]) -> None:
        if isinstance(event, NewLeader) or self.membership.ended is not None:
            return
        after = {node.node: node for node in self.membership.view(self.now).nodes}
        aside = self.membership.view(self.now).set_aside
        for name, agent in self.agents.items():
            old = before.get(name)
            if old is None or not old.connected or old.incarnation != agent.incarnation:
                continue
            if agent.healthy and name not in aside and not isinstance(event, Leave):
                assert name in after, f"{name} stayed alive and was removed by {event}"
        new = self.membership.generation
        if new is None or new.number in self.published:
            return
        assert any(isinstance(e, Publish) and e.generation is new for e in effects)
        assert isinstance(effects[0], Persist)
        last = max(self.published, default=0)
        assert new.number > last, "numbers grow and are never used again"
        names = [member.node for member in new.members]
        assert len(set(names)) == len(names)
        assert self.spec.min_nodes <= len(names) <= self.spec.max_nodes
        assert len(names) % self.spec.node_multiple == 0
        firsts = [new.first_rank(name) for name in names]
        slots = [member.slots for member in new.members]
        assert firsts == [sum(slots[:i]) for i in range(len(slots))]
        for member in new.members:
            assert (member.node, member.incarnation) in self.joined
            assert after[member.node].incarnation == member.incarnation
        assert new.store_endpoint
        assert new.store_endpoint not in self.used, f"a socket is for one generation: {new} {event}"
        self.used.add(new.store_endpoint)
        if last:
            self.check_survivors(self.published[last], new, before, after)
        self.published[new.number] = new

    def check_survivors(
        self, last: Generation, new: Generation, before: dict[str, Any], after: dict[str, Any]
    ) -> None:
        lives = {(member.node, member.incarnation) for member in new.members}
        stayed = [m.node for m in last.members if (m.node, m.incarnation) in lives]
        survivors = set(stayed)
        assert [m.node for m in new.members if m.node in survivors] == stayed
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
            bound = here if self.target is None else min(here, self.target)
            assert self.spec.fitting(bound) == len(new.members), f"{dropped} need not have gone"

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
                    agent = self.agents.get(name)
                    if agent and agent.connected and agent.heard == effect.generation:
                        agent.asked = effect.generation
            case KeepSpare():
                agent = self.agents.get(effect.node)
                if agent and agent.connected:
                    agent.member, agent.phase = False, ""
            case AskDrain():
                agent = self.agents.get(effect.node)
                if agent and agent.connected:
                    agent.draining = True
            case DrainDone():
                agent = self.agents.get(effect.node)
                if agent and agent.connected:
                    assert agent.draining
                    agent.gone = True
            case Refuse():
                agent = self.agents.get(effect.node)
                if agent and agent.incarnation == effect.incarnation:
                    agent.connected = False
                    agent.gone = agent.gone or not effect.retryable
            case EndJob():
                self.ended = True

    def hear(self, name: str, generation: Generation) -> None:
        agent = self.agents.get(name)
        if agent is None or not agent.connected or generation.number <= agent.heard:
            return
        agent.heard = generation.number
        seat = generation.group_rank(name)
        mine = seat is not None and generation.members[seat].incarnation == agent.incarnation
        agent.member, agent.phase = mine, "entering" if mine else ""
        agent.next_socket = "" if mine else agent.next_socket
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
        text = json.dumps(self.record.to_dict()) if self.record else None
        self.membership = Membership()
        for agent in self.agents.values():
            agent.connected = False
        self.step(NewLeader(record=Record.from_dict(json.loads(text)) if text else None))

    def settle(self) -> None:
        """The noise ends: what is late arrives, everybody comes back and does what is asked."""
        for event in self.late:
            self.step(event)
        self.late.clear()
        for _ in range(12):
            for name, agent in list(self.agents.items()):
                if not agent.gone and not agent.healthy:
                    self.join(name, fresh=False)
            self.after(6.0)
            for agent in list(self.agents.values()):
                if agent.healthy and agent.member:
                    self.enter(agent)
                    if agent.asked == agent.heard and agent.phase == "running":
                        self.leave_boundary(agent)


class Histories(RuleBasedStateMachine):
    @initialize(
        least=st.integers(1, 3),
        more=st.integers(0, 3),
        multiple=st.sampled_from([1, 1, 1, 2]),
        budget=st.sampled_from([0, 2, 1000]),
    )
    def begin(self, least: int, more: int, multiple: int, budget: int) -> None:
        most = max(least + more, multiple)
        if most // multiple * multiple < least:
            most = least + multiple
        spec = JobSpec(
            min_nodes=least,
            max_nodes=most,
            node_multiple=multiple,
            max_restarts=budget,
            node_failures=3,
            last_call=0.5,
            grow_interval=4.0,
            boundary_timeout=8.0,
            wait=1e6,
            join_timeout=1e6,
        )
        self.world = World(spec)
        self.world.step(NewLeader(record=None))

    names = st.sampled_from(NAMES)
    late = st.sampled_from([False, False, False, True])

    def agent(self, name: str) -> Agent | None:
        agent = self.world.agents.get(name)
        return agent if agent is not None and agent.healthy else None

    @rule(several=st.sets(names, min_size=1))
    def nodes_join(self, several: set[str]) -> None:
        for name in sorted(several):
            if self.agent(name) is None:
                self.world.join(name, fresh=False)

    @rule(name=names, fresh=st.booleans(), delayed=late)
    def node_joins(self, name: str, fresh: bool, delayed: bool) -> None:
        self.world.join(name, fresh=fresh, delayed=delayed)

    @rule(name=names, crash=st.booleans(), delayed=late)
    def connection_breaks(self, name: str, crash: bool, delayed: bool) -> None:
        if self.agent(name):
            self.world.cut(name, crash=crash, delayed=delayed)

    @rule(name=names)
    def node_falls_silent(self, name: str) -> None:
        if agent := self.agent(name):
            agent.silent = True

    @rule(name=names, delayed=late)
    def node_leaves(self, name: str, delayed: bool) -> None:
        if agent := self.agent(name):
            agent.gone = True
            self.world.send(Leave(**agent.who()), delayed=delayed)

    @rule(delayed=late)
    def members_enter(self, delayed: bool) -> None:
        for agent in list(self.world.agents.values()):
            if agent.healthy and agent.member:
                self.world.enter(agent, delayed=delayed)

    @rule(several=st.sets(names), delayed=late)
    def members_leave_at_the_boundary(self, several: set[str], delayed: bool) -> None:
        for name in sorted(several):
            agent = self.agent(name)
            if agent and agent.asked == agent.heard and agent.phase == "running":
                self.world.leave_boundary(agent, delayed=delayed)

    @rule(name=names, step=st.integers(0, 3), own=st.booleans(), delayed=late)
    def worker_fails(self, name: str, step: int, own: bool, delayed: bool) -> None:
        agent = self.agent(name)
        if agent and agent.member:
            end = {"exit_code": 1} if own else {"signal": 9}
            event = WorkerFailed(
                generation=agent.heard,
                rank=NAMES.index(name),
                step=step,
                store_endpoint=agent.socket(),
                **end,
                **agent.who(),
            )
            self.world.send(event, delayed=delayed)

    @rule(name=names)
    def member_leaves_by_itself(self, name: str) -> None:
        agent = self.agent(name)
        if agent and agent.member and agent.phase in ("entering", "running"):
            self.world.leave_boundary(agent)

    @rule(name=names, grace=st.floats(0, 30), operator=st.booleans())
    def node_drains(self, name: str, grace: float, operator: bool) -> None:
        if agent := self.agent(name):
            agent.draining = True
            incarnation = None if operator else agent.incarnation
            event = DrainAsked(node=name, incarnation=incarnation, grace=grace, reason="notice")
            self.world.step(event)

    @rule(nodes=st.integers(0, 6))
    def operator_scales(self, nodes: int) -> None:
        spec = self.world.spec
        if self.world.record is not None and not self.world.ended:
            if nodes and spec.fitting(nodes) == nodes:
                self.world.target = nodes
            self.world.step(ScaleAsked(nodes=nodes))

    @rule(seconds=st.floats(0, 8))
    def time_passes(self, seconds: float) -> None:
        self.world.after(seconds)

    # A jump of about a beat's timeout can't be told from that much silence.
    @rule(jump=st.floats(-1e5, 0) | st.floats(2, 1e5))
    def clock_jumps(self, jump: float) -> None:
        self.world.now += jump
        self.world.step(Tick())
        self.world.after(1.2)

    @rule(comes_back=st.sets(names))
    def leader_changes(self, comes_back: set[str]) -> None:
        self.world.new_leader()
        for name in sorted(comes_back):
            agent = self.world.agents.get(name)
            if agent and not agent.gone and not agent.silent:
                self.world.join(name, fresh=False)

    @precondition(lambda self: self.world.late)
    @rule(data=st.data())
    def late_message_arrives(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.world.late))
        self.world.late.remove(event)
        self.world.step(event)

    @precondition(lambda self: self.world.sent)
    @rule(data=st.data())
    def message_arrives_twice(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.world.sent))
        if isinstance(event, Join):
            # Of a connection that is over, nothing arrives any more.
            agent = self.agent(event.node)
            if agent is None or agent.stream != event.stream:
                return
        self.world.step(event)

    @rule(status=st.sampled_from(["completed", "stopped"]), several=st.sets(names, min_size=3))
    def members_finish(self, status: str, several: set[str]) -> None:
        for name in sorted(several):
            agent = self.agent(name)
            if agent and agent.member and agent.phase == "running":
                event = Finished(generation=agent.heard, status=status, **agent.who())
                self.world.send(event)

    def teardown(self) -> None:
        if not hasattr(self, "world") or self.world.broken:
            return
        world = self.world
        world.settle()
        if world.membership.ended is not None or world.record is None:
            return
        view = world.membership.view(world.now)
        able = [n for n in view.nodes if n.connected and not n.draining]
        bound = len(able) if world.target is None else min(len(able), world.target)
        fitting = world.spec.fitting(bound)
        finishing = any(node.phase == "finished" for node in view.nodes)
        assert view.active == (fitting > 0), f"enough nodes, and nothing happens: {view}"
        if view.active and view.generation is not None and not finishing:
            here = {node.node for node in able}
            assert {member.node for member in view.generation.members} <= here
            assert len(view.generation.members) == fitting, f"room for more: {view}"


class TestHistories(Histories.TestCase):
    settings = settings(
        max_examples=150,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target],
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.slow
class TestManyHistories(Histories.TestCase):
    settings = settings(
        max_examples=1500,
        stateful_step_count=60,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
