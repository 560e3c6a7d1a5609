"""Thousands of short lives of a cluster: real service, session and store logic, simulated world.

A failure tells its seed, what happened, and the command that plays that one again.
`REMESH_SIM_HISTORIES` sets how many are played.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.history import History

HISTORIES = int(os.environ.get("REMESH_SIM_HISTORIES", "0"))
SEED = os.environ.get("REMESH_SIM_SEED")
FEW, MANY = 1200, 3000
CHUNK = 50
REPOSITORY = Path(__file__).parents[2]


def play(seed: int) -> History:
    history = History(seed=seed, control_plane_only=seed % 3 == 0)
    try:
        history.run()
    except BaseException as error:
        story = "\n".join(history.story)
        again = f"REMESH_SIM_SEED={seed} python -m pytest {__name__.replace('.', '/')}.py"
        error.add_note(f"{story}\n{again}  plays this history again")
        raise
    return history


def chunks(first: int, count: int) -> list[range]:
    if SEED is not None:
        return [range(int(SEED), int(SEED) + 1)] if first == 0 else []
    last = first + (HISTORIES or count)
    return [range(at, min(at + CHUNK, last)) for at in range(first, last, CHUNK)]


@pytest.mark.parametrize("seeds", chunks(0, FEW), ids=lambda seeds: f"{seeds.start}-")
def test_histories(seeds):
    for seed in seeds:
        play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", chunks(FEW, MANY), ids=lambda seeds: f"{seeds.start}-")
def test_many_histories(seeds):
    for seed in seeds:
        play(seed)


def test_a_history_can_be_played_again():
    """Also by another process, in which nothing hashes as it does here."""
    seeds = (7, 11)
    tell = (
        "from tests.simulation.test_simulation import play\n"
        f"for seed in {seeds}:\n"
        "    print('\\n'.join(play(seed).story))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", tell],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        check=True,
        text=True,
    )
    assert told.stdout.splitlines() == [line for seed in seeds for line in play(seed).story]
