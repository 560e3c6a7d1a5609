"""A node that the rendezvous can't reach any more, while it lives."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.training.crew import MIRROR_EVERY, Crew
from tests.integration.launcher.launching import Launcher, wait_for
from tests.proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("silent", [True, False], ids=["packets are lost", "refused"])
async def test_a_node_is_cut_off_and_comes_back(
    launcher: Launcher, sha256: str, silent: bool
) -> None:
    """1. one of two nodes reaches the rendezvous over a wire that is cut; 2. the other goes on
    without it, and it does no step of its own; 3. the wire is mended and it is taken in again."""
    crew = Crew(launcher)
    async with Proxy(crew.endpoint) as wire:
        crew.start("a")
        crew.start("b", endpoint=wire.endpoint)
        await asyncio.to_thread(wait_for, lambda: len(crew.nodes) == 2, "both are in")
        await asyncio.to_thread(crew.reach, crew.step + 25)
        if silent:
            wire.freeze()
        else:
            wire.cut()
        await asyncio.to_thread(wait_for, lambda: crew.nodes == ["a"], "b is given up")
        await asyncio.to_thread(crew.reach, crew.step + 8)
        assert crew.nodes == ["a"]
        wire.heal()
        await asyncio.to_thread(wait_for, lambda: len(crew.nodes) == 2, "it is taken in again")
        await asyncio.to_thread(crew.check, sha256, lost_steps=2 * MIRROR_EVERY)
