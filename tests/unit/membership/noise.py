"""What can happen to a job, one function each; every history is a list of these."""

from __future__ import annotations

from collections.abc import Iterable

from rendezvous.membership import (
    DrainAsked,
    Event,
    Finished,
    JobSpec,
    Join,
    Leave,
    ScaleAsked,
    Tick,
    WorkerFailed,
)
from tests.unit.membership.world import NAMES, World


def spec(least: int, more: int, multiple: int, budget: int) -> JobSpec:
    most = max(least + more, multiple)
    if most // multiple * multiple < least:
        most = least + multiple
    return JobSpec(
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


def nodes_join(world: World, several: Iterable[str]) -> None:
    for name in sorted(several):
        if world.healthy(name) is None:
            world.join(name, fresh=False)


def node_joins(world: World, name: str, *, fresh: bool, delayed: bool) -> None:
    world.join(name, fresh=fresh, delayed=delayed)


def connection_breaks(world: World, name: str, *, crash: bool, delayed: bool) -> None:
    if world.healthy(name):
        world.cut(name, crash=crash, delayed=delayed)


def node_falls_silent(world: World, name: str) -> None:
    if agent := world.healthy(name):
        agent.silent = True


def node_leaves(world: World, name: str, *, delayed: bool) -> None:
    if agent := world.healthy(name):
        agent.gone = True
        world.send(Leave(**agent.who()), delayed=delayed)


def members_enter(world: World, *, delayed: bool) -> None:
    for agent in list(world.agents.values()):
        if agent.healthy and agent.member:
            world.enter(agent, delayed=delayed)


def members_leave_at_the_boundary(world: World, several: Iterable[str], *, delayed: bool) -> None:
    for name in sorted(several):
        agent = world.healthy(name)
        if agent and agent.asked == agent.heard and agent.phase == "running":
            world.leave_boundary(agent, delayed=delayed)


def worker_fails(world: World, name: str, *, step: int, own: bool, delayed: bool) -> None:
    agent = world.healthy(name)
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
        world.send(event, delayed=delayed)


def member_leaves_by_itself(world: World, name: str) -> None:
    agent = world.healthy(name)
    if agent and agent.member and agent.phase in ("entering", "running"):
        world.leave_boundary(agent)


def node_drains(world: World, name: str, *, grace: float, operator: bool) -> None:
    if agent := world.healthy(name):
        agent.draining = True
        incarnation = None if operator else agent.incarnation
        event = DrainAsked(node=name, incarnation=incarnation, grace=grace, reason="notice")
        world.step(event)


def operator_scales(world: World, nodes: int) -> None:
    if world.record is not None and world.membership.ended is None:
        world.step(ScaleAsked(nodes=nodes))


def time_passes(world: World, seconds: float) -> None:
    world.after(seconds)


def clock_jumps(world: World, jump: float) -> None:
    world.now += jump
    world.step(Tick())
    world.after(1.2)


def leader_changes(world: World, comes_back: Iterable[str]) -> None:
    world.new_leader()
    for name in sorted(comes_back):
        agent = world.agents.get(name)
        if agent and not agent.gone and not agent.silent:
            world.join(name, fresh=False)


def late_message_arrives(world: World, late: Event) -> None:
    world.late.remove(late)
    world.step(late)


def message_arrives_twice(world: World, sent: Event) -> None:
    if isinstance(sent, Join):
        # Of a connection that is over, nothing arrives any more.
        agent = world.healthy(sent.node)
        if agent is None or agent.stream != sent.stream:
            return
    world.step(sent)


def members_finish(world: World, several: Iterable[str], *, status: str, whole: bool) -> None:
    for name in sorted(several):
        agent = world.healthy(name)
        if agent and agent.member and agent.phase == "running":
            who = agent.who()
            world.send(Finished(generation=agent.heard, status=status, whole=whole, **who))
