"""Thousands of random histories, each from its seed: cheap enough for every run of the suite.

`REMESH_HISTORY_SEED=<seed> pytest tests/unit/membership/test_seeded_histories.py` plays one again.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.unit.membership import noise
from tests.unit.membership.world import NAMES, World

SEED = os.environ.get("REMESH_HISTORY_SEED")
HISTORIES = 4000
MANY_HISTORIES = 30_000
CHUNK = 250
LONGEST = 60

EVENTS: tuple[Callable[..., None], ...] = (
    noise.nodes_join,
    noise.nodes_join,
    noise.node_joins,
    noise.connection_breaks,
    noise.node_falls_silent,
    noise.node_leaves,
    noise.members_enter,
    noise.members_enter,
    noise.members_leave_at_the_boundary,
    noise.members_leave_at_the_boundary,
    noise.worker_fails,
    noise.member_leaves_by_itself,
    noise.node_drains,
    noise.operator_scales,
    noise.time_passes,
    noise.time_passes,
    noise.clock_jumps,
    noise.leader_changes,
    noise.late_message_arrives,
    noise.message_arrives_twice,
    noise.members_finish,
)


def coin(random: Random, world: World) -> bool:
    return random.random() < 0.5


def some(random: Random, world: World) -> list[str]:
    return random.sample(NAMES, random.randint(0, len(NAMES)))


DRAW: dict[str, Callable[[Random, World], Any]] = {
    "name": lambda random, _: random.choice(NAMES),
    "several": some,
    "comes_back": some,
    "fresh": coin,
    "crash": coin,
    "own": coin,
    "operator": coin,
    "whole": coin,
    "delayed": lambda random, _: random.random() < 0.25,
    "step": lambda random, _: random.randint(0, 3),
    "grace": lambda random, _: random.uniform(0, 30),
    "nodes": lambda random, _: random.randint(0, 6),
    "seconds": lambda random, _: random.choice((0.0, random.uniform(0, 1), random.uniform(0, 8))),
    # A jump of about a beat's timeout can't be told from that much silence.
    "jump": lambda random, _: random.choice((random.uniform(-1e5, 0), random.uniform(2, 1e5))),
    "status": lambda random, _: random.choice(("completed", "stopped")),
    "late": lambda random, world: random.choice(world.late) if world.late else None,
    "sent": lambda random, world: random.choice(world.sent) if world.sent else None,
}
"""What to draw for an event's argument of that name; None: it can't happen now."""

TAKES = {event: tuple(inspect.signature(event).parameters)[1:] for event in EVENTS}


def happen(event: Callable[..., None], random: Random, world: World) -> str:
    """Let one event happen, if it can; tells which."""
    drawn = {name: DRAW[name](random, world) for name in TAKES[event]}
    told = f"{world.now:.3f} {event.__name__} {drawn}"
    if None not in drawn.values():
        event(world, **drawn)
    return told


def play(seed: int) -> list[str]:
    """What happened. Raises AssertionError where a promise was not kept."""
    random = Random(seed)
    spec = noise.spec(
        least=random.randint(1, 3),
        more=random.randint(0, 3),
        multiple=random.choice((1, 1, 1, 2)),
        budget=random.choice((0, 2, 1000, 1000)),
    )
    story = [str(spec)]
    try:
        world = World(spec)
        for _ in range(random.randint(5, LONGEST)):
            story.append(happen(random.choice(EVENTS), random, world))
        owed = world.settle()
        assert not owed, f"{owed}: {world.membership.view(world.now)}"
    except AssertionError as error:
        again = f"REMESH_HISTORY_SEED={seed} python -m pytest {__name__.replace('.', '/')}.py"
        error.add_note("\n".join([*story, f"{again}  plays this history again"]))
        raise
    return story


def chunks(first: int, count: int) -> list[range]:
    if SEED is not None:
        return [range(int(SEED), int(SEED) + 1)] if first == 0 else []
    return [range(at, min(at + CHUNK, first + count)) for at in range(first, first + count, CHUNK)]


@pytest.mark.parametrize("seeds", chunks(0, HISTORIES), ids=lambda seeds: f"{seeds.start}-")
def test_histories(seeds):
    for seed in seeds:
        play(seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "seeds", chunks(HISTORIES, MANY_HISTORIES), ids=lambda seeds: f"{seeds.start}-"
)
def test_many_histories(seeds):
    for seed in seeds:
        play(seed)


def test_a_seed_always_tells_the_same_story():
    assert play(11) == play(11)
