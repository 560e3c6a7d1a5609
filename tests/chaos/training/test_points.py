"""Every rank dies at every named point of a step, and the weights stay those of a quiet run."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.chaos.training.crew import MIRROR_EVERY, Crew
from tests.integration.launcher.launching import Launcher
from trainer.job.faults import Point

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

POINTS = [point for point in get_args(Point) if point != "in-save"]
KILLS = [(point, rank) for point in POINTS for rank in range(4)]
FIRST, APART = 10, 9


@pytest.mark.parametrize("replicas", [1, 2], ids=["shards", "replicas"])
def test_every_rank_dies_at_every_point(launcher: Launcher, sha256: str, replicas: int) -> None:
    """1. 9 steps apart, the next rank is killed: before the backward, in the fold, before the
    norm, after it (when others may have applied the step, or not), after the update. With replicas
    the survivors hold everything, and roll forward or redo the step: nothing is repeated."""
    mirrors = MIRROR_EVERY if replicas == 1 else 0
    faults = [
        f"--fault=kind=kill,rank={rank},step={FIRST + APART * number},point={point}"
        for number, (point, rank) in enumerate(KILLS)
    ]
    flags = [f"--set=parallel.replicate={replicas}", f"--set=elastic.mirror_every={mirrors}"]
    crew = Crew(launcher, *flags, *faults)
    crew.start("a", "b")
    crew.check(sha256, lost_steps=len(KILLS) * mirrors)
    assert crew.number >= 1 + len(KILLS)
