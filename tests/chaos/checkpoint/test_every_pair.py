"""The reference model with AdamW: every layout of one to eight ranks goes on from every other.

1. One rank trains three steps and saves.
2. Every layout loads that and saves it as its own.
3. Every layout loads every layout's checkpoint. Each rank's parts have the sha256 of the same
   parts of step 1's state; together the ranks hold all of it.
4. Having loaded the last, each layout trains five more steps. What it goes on from is the same to
   the bit whichever checkpoint it came from, so one continuation a layout stands for all. Losses
   are equal to the bit where tp is equal, and to rounding where it is not.

Attention heads, the vocabulary and the feed-forward width divide by tp, so that tp of 5 and 7 would
need another model; all else is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.integration.checkpoint.ranks import Ranks
from tests.integration.training.jobs import write_job

pytestmark = pytest.mark.slow
SCENES = "tests.chaos.checkpoint.real_model"
LAYOUTS = [
    (pp, dp, tp, 2 if dp % 2 == 0 and pp == 1 else 1)
    for pp in range(1, 9)
    for dp in range(1, 9)
    for tp in (1, 2, 3, 4, 6, 8)
    if pp * dp * tp <= 8
]
MODEL = {
    "preset": "debug",
    "dim": 48,
    "layers": 8,
    "heads": 24,
    "kv_heads": 24,
    "ffn_multiple": 24,
    "vocab": 264,
}


@dataclass
class Written:
    """The first checkpoint, one of every layout, and the losses seen so far by tp."""

    ranks: Ranks
    job: str
    first: str
    directories: list[str]
    losses: dict[int, list[float]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    room = tmp_path_factory.mktemp("pairs")
    job = write_job(
        room,
        model=MODEL,
        data__seq_len=24,
        train__pieces=8,
        train__microbatches=1,
        parallel={"schedule": "gpipe", "sequence_parallel": False},
    )
    with Ranks(8) as ranks:
        of_all = Written(
            ranks, str(job), str(room / "first"), [str(room / f"{mesh}") for mesh in LAYOUTS], {}
        )
        ranks.run(f"{SCENES}:begin", 1, job=of_all.job, directory=of_all.first)
        for mesh, directory in zip(LAYOUTS, of_all.directories, strict=True):
            options = {"job": of_all.job, "mesh": mesh, "source": of_all.first}
            ranks.run(f"{SCENES}:rewrite", ranks_of(mesh), directory=directory, **options)
        [[_, of_all.losses[1]]] = go_on(of_all, (1, 1, 1, 1))
        yield of_all


def ranks_of(mesh: tuple[int, ...]) -> int:
    return mesh[0] * mesh[1] * mesh[2]


def go_on(written: Written, mesh: tuple[int, ...]) -> list[tuple[list[str], list[float]]]:
    return written.ranks.run(
        f"{SCENES}:go_on",
        ranks_of(mesh),
        job=written.job,
        mesh=mesh,
        first=written.first,
        directories=written.directories,
    )


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mesh", LAYOUTS, ids=lambda mesh: "pp{}-dp{}-tp{}-x{}".format(*mesh))
def test_a_layout_goes_on_from_every_other(written: Written, mesh: tuple[int, ...]) -> None:
    for odd, losses in go_on(written, mesh):
        assert odd == []
        assert losses == written.losses.setdefault(mesh[2], losses)
        assert losses == pytest.approx(written.losses[1], rel=1e-5)
        assert losses[-1] < losses[0]
