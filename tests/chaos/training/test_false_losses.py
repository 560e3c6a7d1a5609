"""Nodes that are taken for lost and are not: nobody may tell it from the weights."""

from __future__ import annotations

import pytest

from tests.chaos.training.crew import JOB, MIRROR_EVERY, Crew, undisturbed
from tests.integration.launcher.launching import Launcher, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LOSSES = 12
STEPS = 500
"""A node trains on while its agent is stopped, for up to thirty steps each time."""
LONG_JOB = JOB.replace("steps: 200", f"steps: {STEPS}")


@pytest.fixture(scope="module")
def long_sha256(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of the longer job that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return str(undisturbed(folder, job=LONG_JOB)["weights_sha256"])


@pytest.mark.parametrize("mirrors", [1, 3], ids=["every step", "every third"])
def test_twelve_false_losses(launcher: Launcher, long_sha256: str, mirrors: int) -> None:
    """1. twelve times, by turns, an agent is stopped for longer than a beat may take, so that its
    node is given up while its workers run on; 2. it comes back with state of its own. Copies of
    the state are made at nearly every step, so that one is under way at every loss."""
    flags = f"--set=elastic.mirror_every={mirrors}", "--set=elastic.grow_interval=0.2"
    crew = Crew(launcher, *flags, job=LONG_JOB)
    crew.start("a", "b")
    for turn in range(LOSSES):
        crew.reach(8 + 14 * turn)
        wait_for(lambda: len(crew.nodes) == 2, "both are in")
        node = crew.nodes[turn % 2]
        crew.agents[node].suspend()
        wait_for(lambda n=node: n not in crew.nodes, "it is given up")
        crew.agents[node].resume()
    crew.check(long_sha256, lost_steps=LOSSES * MIRROR_EVERY, steps=STEPS)
