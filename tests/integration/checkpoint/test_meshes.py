"""Real ranks over gloo: FSDP2, HSDP, tensor parallel and pipeline shards, any to any."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.checkpoint.ranks import Ranks
from trainer.checkpoint.catalog import find
from trainer.checkpoint.staging import read_description, staged_bytes
from trainer.checkpoint.writer import BackgroundWriter

SCENES = "tests.integration.checkpoint.scenes"
# pp, dp, tp, and how many replicas of the state there are among the dp ranks
MESHES = [(1, 1, 1, 1), (1, 3, 1, 1), (1, 4, 1, 2), (1, 2, 2, 1), (2, 2, 1, 2), (2, 1, 2, 1)]


def ranks_of(mesh: tuple[int, ...]) -> int:
    return mesh[0] * mesh[1] * mesh[2]


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    with Ranks(4) as started:
        yield started


def test_any_mesh_loads_what_any_other_saved(ranks: Ranks, tmp_path: Path) -> None:
    for version, mesh in enumerate(MESHES, 1):
        directory = str(tmp_path / f"{version}")
        written = ranks.run(
            f"{SCENES}:save", ranks_of(mesh), directory=directory, mesh=mesh, version=version
        )
        assert len(set(written)) == 1
        manifest = find(directory).manifest
        total = sum(tensor.bytes for tensor in manifest.tensors.values())
        assert total < manifest.bytes <= total + 8192 * len(manifest.files), "no replica twice"
        for other in MESHES:
            for answer in ranks.run(
                f"{SCENES}:load", ranks_of(other), directory=directory, mesh=other
            ):
                assert answer == {"version": version, "values": {"cursor": version}, "wrong": []}


def test_staged_saves_are_written_without_the_ranks(ranks: Ranks, tmp_path: Path) -> None:
    shared = Path(tempfile.mkdtemp(prefix="remesh-test-", dir="/dev/shm"))
    directory = str(tmp_path / "checkpoints")
    mesh = (1, 4, 1, 2)
    try:
        told = ranks.run(f"{SCENES}:stage", 4, directory=directory, mesh=mesh, staging=str(shared))
        outcomes = []
        writer = BackgroundWriter(outcomes.append)
        for index in (0, 1):
            for future in [writer.submit(paths[index]) for paths in told]:
                assert future.result(timeout=120).error is None
        writer.close()
        committed = [outcome for outcome in outcomes if outcome.path is not None]
        assert [(outcome.version, outcome.rank) for outcome in committed] == [(10, 0), (20, 0)]
        for paths in told:
            staged = read_description(paths[1])
            held = sum(row[-1] for row in staged["boxes"] + staged["held"])
            assert staged["held_bytes"] >= held
            assert len(staged_bytes(staged["slot"], staged["held_bytes"])) > 0
        for other in ((1, 1, 1, 1), (2, 2, 1, 1)):
            for answer in ranks.run(
                f"{SCENES}:load", ranks_of(other), directory=directory, mesh=other
            ):
                assert answer == {"version": 20, "values": {"cursor": 20}, "wrong": []}
    finally:
        shutil.rmtree(shared)


def test_what_fails_on_one_rank_is_raised_on_all(ranks: Ranks, tmp_path: Path) -> None:
    first, second = ranks.run(f"{SCENES}:fail_on_one_rank", 2, directory=str(tmp_path / "c"))
    assert first == second
    assert "ranks disagree about 'w'" in first[0]
    assert "x is not in it" in first[1]


def test_replicas_on_several_hosts_read_a_part_each_and_exchange_it(
    ranks: Ranks, tmp_path: Path
) -> None:
    whole = 4 * 1024 * 2048 * 4 + 7 * 4 + 8
    apart, together = (
        ranks.run(f"{SCENES}:load_replicas", 4, directory=str(tmp_path / hosts), hosts=[*hosts])
        for hosts in ("abcd", "aaaa")
    )
    assert [answer["wrong"] for answer in [*apart, *together]] == [[]] * 8
    assert sum(answer["bytes"] for answer in apart) == whole
    assert max(answer["bytes"] for answer in apart) <= whole / 4 + 100
    assert [answer["bytes"] for answer in together] == [whole] * 4


def test_what_one_replica_finds_damaged_none_of_them_takes(ranks: Ranks, tmp_path: Path) -> None:
    answers = ranks.run(
        f"{SCENES}:load_damaged_replicas", 3, directory=str(tmp_path / "c"), hosts=[*"abc"]
    )
    assert answers == [[1, 1, []]] * 3


def test_state_dicts_outside_a_job(ranks: Ranks, tmp_path: Path) -> None:
    for answer in ranks.run(f"{SCENES}:outside_a_job", 2, directory=str(tmp_path / "c")):
        assert answer == [3, 7, True, True]
