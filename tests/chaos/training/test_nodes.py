"""Nodes go, come back, are stopped and continued; 4 workers on 2 agents, 8 on 4."""

from __future__ import annotations

import signal

import pytest

from tests.chaos.training.crew import MIRROR_EVERY, Crew
from tests.integration.launcher.launching import Launcher, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IN_FLIGHT = 3
"""Steps that may pass before a mirror has arrived at the other node."""


def test_each_node_is_lost_and_comes_back(launcher: Launcher, sha256: str) -> None:
    """1. the node of the last rank is killed with its workers; 2. it is started anew and taken
    in; 3. the same with the node of rank 0."""
    crew = Crew(launcher)
    crew.start("a", "b")
    for turn, first in enumerate((False, True)):
        crew.reach(25 + 70 * turn)
        nodes = crew.nodes
        lost = nodes[0] if first else nodes[-1]
        crew.kill_node(lost)
        wait_for(lambda n=lost: n not in crew.nodes, "the others go on")
        crew.reach(crew.step + 5)
        crew.take_in(lost)
    crew.check(sha256, lost_steps=2 * (MIRROR_EVERY + IN_FLIGHT))


def test_drained_nodes_come_back_and_no_step_is_repeated(launcher: Launcher, sha256: str) -> None:
    """1. each node in turn gets SIGTERM, leaves with 75, and is started again."""
    crew = Crew(launcher)
    crew.start("a", "b")
    for turn in range(3):
        crew.reach(20 + 50 * turn)
        node = crew.nodes[turn % 2]
        assert crew.drain(node).code == 75
        crew.reach(crew.step + 5)
        crew.take_in(node)
    crew.check(sha256, lost_steps=0)


def test_an_agent_stopped_past_its_lease_finds_itself_out(launcher: Launcher, sha256: str) -> None:
    """1. the agent of rank 0 gets SIGSTOP; 2. the others go on without it; 3. it gets SIGCONT,
    finds that its generation is over, and is taken in again; 4. the same with its workers stopped
    as well, and with the other node. No step of the generation that is over counts."""
    crew = Crew(launcher, "--set=checkpoint.every=10")
    crew.start("a", "b")
    for turn, whole in enumerate((False, True, False)):
        crew.reach(20 + 50 * turn)
        generation = crew.generation
        node = generation["nodes"][turn % 2]
        agent = crew.agents[node]
        stopped = [agent, *(agent.children(recursive=True) if whole else [])]
        for process in stopped:
            process.suspend()
        wait_for(lambda n=node: n not in crew.nodes, "the others go on")
        over = crew.number
        crew.reach(crew.step + 8)
        for process in reversed(stopped):
            process.resume()
        wait_for(lambda n=node: n in crew.nodes, "it is taken in again")
        late = [
            e
            for e in crew.events("checkpoint.commit")
            if e["generation"] < over and e["time"] > generation["time"] and e["node"] == node
        ]
        first = crew.events("generation.begin")[over - 1]["time"]
        assert not [e for e in late if e["time"] > first], late
    crew.check(sha256, lost_steps=3 * (MIRROR_EVERY + IN_FLIGHT))


def test_eight_ranks_on_four_nodes(launcher: Launcher, sha256: str) -> None:
    """1. one node is killed, 2. two at once, 3. one is drained; each comes back before the next."""
    crew = Crew(launcher, nodes="1:4")
    crew.start("a", "b", "c", "d")
    wait_for(lambda: len(crew.nodes) == 4, "all four are in")
    for step, lost in ((15, [3]), (60, [0, 1])):
        crew.reach(step)
        names = [crew.nodes[index] for index in lost]
        for name in names:
            crew.kill_node(name)
        wait_for(lambda gone=names: not {*gone} & {*crew.nodes}, "the others go on")
        crew.take_in(*names)
    crew.reach(crew.step + 10)
    assert crew.drain(crew.nodes[1]).code == 75
    # Two neighbours at once are one more than mirrors promise: then it is the last checkpoint.
    crew.check(sha256, lost_steps=MIRROR_EVERY + IN_FLIGHT + 60)


def test_the_last_node_saves_and_the_run_is_taken_up_again(launcher: Launcher, sha256: str) -> None:
    """1. both nodes get SIGTERM; 2. both leave with 75, the state in storage; 3. two new agents
    go on from there."""
    crew = Crew(launcher)
    crew.start("a", "b")
    crew.reach(30)
    agents = dict(crew.agents)
    crew.agents.clear()
    for agent in agents.values():
        agent.send_signal(signal.SIGTERM)
    assert {launcher.end(agent).code for agent in agents.values()} == {75}
    crew.start("a", "b")
    crew.check(sha256, lost_steps=0)
