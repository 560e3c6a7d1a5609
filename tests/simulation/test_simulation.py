"""Thousands of short lives of a cluster: real service, session and store logic, simulated world.

A failure tells its seed; `REMESH_SIM_SEED=<seed> pytest tests/simulation` plays that one again.
`REMESH_SIM_HISTORIES` sets how many are played.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.history import History

HISTORIES = int(os.environ.get("REMESH_SIM_HISTORIES", "0"))
SEED = os.environ.get("REMESH_SIM_SEED")
CHUNK = 25


def play(seed: int) -> History:
    history = History(seed=seed, control_plane_only=seed % 3 == 0)
    try:
        history.run()
    except BaseException as error:
        story = "\n".join(history.story)
        error.add_note(f"REMESH_SIM_SEED={seed} plays this history again:\n{story}")
        raise
    return history


def seeds(first: int, count: int) -> list[int]:
    if SEED is not None:
        return [int(SEED)] if first == 0 else []
    return list(range(first, first + (HISTORIES or count)))


def chunks(first: int, count: int) -> list[list[int]]:
    every = seeds(first, count)
    return [every[i : i + CHUNK] for i in range(0, len(every), CHUNK)]


@pytest.mark.parametrize("several", chunks(0, 75), ids=lambda several: f"{several[0]}-")
def test_histories(several):
    for seed in several:
        play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("several", chunks(1000, 3000), ids=lambda several: f"{several[0]}-")
def test_many_histories(several):
    for seed in several:
        play(seed)


def test_a_history_can_be_played_again():
    once, again = play(7), play(7)
    assert once.story == again.story
    assert once.generations == again.generations
