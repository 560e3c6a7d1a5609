"""Collectives that are cut as NCCL's are, at random calls, on meshes of every kind.

See tests/like_nccl.py and tests/integration/training/test_cut_collectives.py, which cuts each call
once. REMESH_SEED repeats a sequence; a failure names it.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.training.cuts import Stage, hash_of, scene
from tests.integration.training.jobs import mesh, write_job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

RANKS = 4
STEPS = 24
CUTS = 30
HOWS = ("away", "cut", "fooled")
KINDS: dict[str, dict[str, Any] | None] = {
    "any number of ranks": {},
    "replicas": mesh(dp=4, replicate=2),
    "pipeline": mesh(dp=2, pp=2),
    "tensor": mesh(dp=2, tp=2),
    "sums in any order": {"train__exact": False},
    "a loop of one's own": None,
}
MOVES = ("movement._exchange/send", "movement._exchange/recv")


def write(kind: str, directory: Path) -> Path:
    overrides = KINDS[kind]
    if overrides is None:
        directory.mkdir()
        path = directory / "job.yaml"
        entrypoint = {"script": "own.py", "elastic": True}
        path.write_text(yaml.safe_dump({"entrypoint": entrypoint, "checkpoint": {"every": 5}}))
        return path
    train = {"steps": STEPS, "pieces": 4, "microbatches": 2, "clip": 0.5}
    return write_job(directory, train=train, elastic={"mirror_every": 3}, **overrides)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stage"), RANKS)
    yield stage
    stage.close()


@pytest.mark.parametrize("kind", KINDS)
def test_cuts_anywhere(stage: Stage, tmp_path: Path, kind: str) -> None:
    """1. nothing is cut; 2. the same job again, and thirty times: some rank is cut at a call of the
    next few steps, all are interrupted, and take other ranks (or, where the mesh allows it, some
    sit out); 3. weights and losses are those of the quiet run. A job that gets to its end before
    the thirtieth cut is begun again."""
    seed = os.environ.get("REMESH_SEED", str(time.time_ns() % 1_000_000))
    print(f"REMESH_SEED={seed}")
    draw = random.Random(f"{seed}/{kind}")
    weights, calls = stage.quiet(write(kind, tmp_path / "quiet"))
    losses, counted = dict(stage.losses), Counter(calls)
    often = [place for place, count in counted.items() if count >= STEPS]
    job = write(kind, tmp_path / "0")
    for number in range(CUTS):
        place = draw.choice(often if draw.random() < 0.5 else [*counted, *MOVES])
        turn = draw.randrange(1, 3 * counted[place] // STEPS + 2)
        ranks = draw.randrange(2, RANKS + 1) if kind == "any number of ranks" else RANKS
        how = draw.choice(HOWS)
        told = f"{number}: {place} ({turn}) {how}, {ranks} ranks"
        cuts, moved = scene(place, turn, how, draw, ranks), draw.randrange(RANKS)
        said = stage.generation(job, cuts, seed=f"{seed}/{number}", turn=moved, ranks=ranks)
        print(told, *(message.get("version") for message in said))
        ends = {message["type"] for message in said}
        assert ends <= {"left", "finished"}, f"{told}: {said}"
        assert all(losses[step] == loss for step, loss in stage.losses), told
        if ends == {"finished"}:
            assert hash_of(said) == weights, told
            job = write(kind, tmp_path / str(number + 1))
    assert hash_of(stage.generation(job, {})) == weights
