"""A result counts only if the generation still stands: collectives that are cut, and don't raise.

Groups are gloo's with the manners of NCCL (tests/like_nccl.py). One job after the other is trained
over many generations, each of which is ended by a cut at another place: in the gradients'
reduction, in the ballot, in what the ranks tell each other, in shards on their way, in the hash at
the end. Some rank does not come there, or has no result where the others have, or is left with
nonsense that nobody has warned it of. In the end the weights are those of the run in which nothing
was cut.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.training.cuts import Stage, hash_of, scene
from tests.integration.training.jobs import write_job

RANKS = 3
STEPS = 24
HOWS = ("away", "cut", "fooled")
COMMIT = {"job": "ballot.agree/allreduce", "own": "tally.count/allreduce"}
"""Where a step commits."""
TAIL = "program._call/broadcast"
"""Where a loop calls from between a step's commit and its end, which it should not."""
SAVING = ("planning", "checkpointer.save")
LAST = ("digest", "custody.finish")


def write(kind: str, directory: Path) -> Path:
    """A job of ours, or one of a loop of a user's own (own.py; tail.py)."""
    if kind == "job":
        return write_job(
            directory,
            train={"steps": STEPS, "pieces": 4, "clip": 0.5, "optimizer": {"lr": 3e-3}},
            elastic={"mirror_every": 7},
        )
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "job.yaml"
    entrypoint = {"script": f"{kind}.py", "elastic": True}
    path.write_text(yaml.safe_dump({"entrypoint": entrypoint, "checkpoint": {"every": 2}}))
    return path


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stage"), RANKS)
    yield stage
    stage.close()


@pytest.mark.parametrize("kind", ["job", "own"])
def test_what_a_cut_collective_left_is_never_believed(
    stage: Stage, tmp_path: Path, kind: str
) -> None:
    """1. nothing is cut; 2. the same job again, every place that it calls from cut once, and the
    one where a step commits in every way; ranks change places in between, so that shards move."""
    weights, calls = stage.quiet(write(kind, tmp_path / "quiet"))
    losses = dict(stage.losses)
    told: set[int] = set()
    job, draw = write(kind, tmp_path / "cut"), random.Random(kind)
    counted = Counter(calls)
    for number, (place, how) in enumerate(scenes(counted, COMMIT[kind])):
        # In the second step of a generation, where it is called from in every step.
        cuts = scene(place, counted[place] // STEPS + 1, how, draw, RANKS)
        said = stage.generation(job, cuts, seed=(place, how), turn=number)
        ends = {message["type"] for message in said}
        assert ends <= {"left", "finished"}, f"{place} {how}: {said}"
        assert "left" in ends, f"{place} {how} was not reached"
        assert all(losses[step] == loss for step, loss in stage.losses), f"{place} {how}"
        told |= {step for step, _ in stage.losses}
    assert hash_of(stage.generation(job, {})) == weights
    assert told == {*range(1, STEPS + 1)}


@pytest.mark.parametrize("how", ["away", "cut"])
def test_a_state_that_was_cut_after_the_commit_is_torn(
    stage: Stage, tmp_path: Path, how: str
) -> None:
    """1. a user's loop has a collective behind its optimizer's step, and is cut there; 2. who was
    does not bring that state along: it is taken back from storage."""
    weights, calls = stage.quiet(write("tail", tmp_path / "quiet"))
    assert TAIL in calls
    job = write("tail", tmp_path / "cut")
    cuts = scene(TAIL, 6, how, random.Random(how), RANKS)
    said = stage.generation(job, cuts, seed=how)
    assert {message["type"] for message in said} == {"left"}
    assert [said[rank]["version"] for rank in cuts] == [0]
    assert hash_of(stage.generation(job, {})) == weights


def scenes(counted: Counter[str], commit: str) -> Iterator[tuple[str, str]]:
    """Places and how they are cut, in an order in which each is still come to.

    `counted` says how often the quiet run called from each place.
    """
    moves = [(f"movement._exchange/{end}", how) for end in ("send", "recv") for how in HOWS]
    every_way = [(commit, how) for how in HOWS]
    planned = [(place, HOWS[number % 3]) for number, place in enumerate(counted)]
    for place, how in sorted(planned, key=_lateness):
        yield place, how
        if counted[place] >= STEPS and not place.startswith(LAST):
            # Whoever is another rank from now on needs others' shards.
            yield moves.pop()
        if place == commit:
            yield from every_way


def _lateness(scene: tuple[str, str]) -> int:
    """Saves come after the steps here, as each takes steps of its own; the end comes last."""
    place, _ = scene
    return 2 if place.startswith(LAST) else int(place.startswith(SAVING))
