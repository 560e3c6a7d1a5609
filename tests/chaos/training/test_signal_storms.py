"""Storms of the signals that mean `leave`, to random processes of a run, drawn from a seed."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable

import psutil
import pytest

from tests.chaos.training.crew import STEPS, Crew
from tests.integration.launcher.launching import Launcher, wait_for
from trainer.signals import LEAVE_SIGNALS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STORMS = 8
LAST_STORM = STEPS - 30
"""The run is to be still on its way when who left comes back."""
BURST = 6
"""At most so many signals to one process in one storm."""


def family(agent: psutil.Popen) -> list[psutil.Process]:
    """Workers, standbys and what watches over the agent."""
    return agent.children(recursive=True)


def storm(draw: random.Random, victims: Iterable[psutil.Process]) -> None:
    """Every victim gets one signal at least, all of them in a random order."""
    burst = [
        (victim, number)
        for victim in victims
        for number in draw.choices(LEAVE_SIGNALS, k=draw.randint(1, BURST))
    ]
    draw.shuffle(burst)
    for victim, number in burst:
        if victim.is_running():
            victim.send_signal(number)


def some(draw: random.Random, processes: list[psutil.Process]) -> list[psutil.Process]:
    return draw.sample(processes, draw.randint(1, len(processes)))


def test_storms_of_signals_lose_nothing(launcher: Launcher, sha256: str) -> None:
    """
    1. mirrors are off, so that what a worker takes along would be lost
    2. eight times a storm: to some of the processes that are not agents, and nothing happens; to
       all of one node and some of the other, and that node leaves; or to all, and all leave
    3. who has left is started again; the run ends in the weights of a quiet one, no step repeated

    REMESH_SEED repeats a sequence.
    """
    seed = int(os.environ.get("REMESH_SEED", time.time_ns() % 1_000_000))
    draw = random.Random(seed)
    print(f"REMESH_SEED={seed}")
    crew = Crew(launcher, "--set=elastic.mirror_every=0")
    crew.start("a", "b")
    wait_for(lambda: len(crew.nodes) == 2, "both nodes are in")
    for _ in range(STORMS):
        crew.reach(crew.step + draw.randint(0, 4))
        if crew.step > LAST_STORM:
            break
        kind = draw.choice(["children", "node", "node", "all"])
        leaving = {"children": [], "node": [draw.choice("ab")], "all": ["a", "b"]}[kind]
        print(f"step {crew.step}: {kind} {leaving}")
        children = [child for agent in crew.agents.values() for child in family(agent)]
        victims = set(some(draw, children))
        for agent in map(crew.agents.get, leaving):
            assert agent is not None
            victims |= {agent, *family(agent)}
        died, number = len(crew.events("worker.exit")), crew.number
        storm(draw, victims)
        for node in leaving:
            ended = crew.see_off(node)
            assert ended.code == 75, (ended.err, crew.story())
        if kind == "children":
            crew.reach(crew.step + 2)
            assert len(crew.events("worker.exit")) == died, crew.story()
        elif kind == "node":
            crew.take_in(*leaving)
        else:
            crew.start(*leaving)
            wait_for(lambda n=number: crew.number > n, "the run goes on")
        wait_for(lambda: len(crew.nodes) == 2, "both nodes are in")
    crew.check(sha256, lost_steps=0)
