"""How much shared memory staged state takes, and whether it is there."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.agent.story import generation
from trainer.agent.staging_room import Shortage, needed_bytes, shortage
from trainer.command.job_launch import job_launch
from trainer.command.run import parse

MIB = 1 << 20


def test_two_slots_a_rank_and_as_much_again_for_another_nodes_mirrors() -> None:
    assert needed_bytes(58 * MIB, 2, mirrors=False) == 4 * 58 * MIB
    assert needed_bytes(58 * MIB, 2, mirrors=True) == 8 * 58 * MIB
    assert needed_bytes(1, 1, mirrors=False) == 2 * 2 * MIB, "a slot is of whole grains"


def test_what_is_staged_already_counts_as_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk of 8 MiB that holds nothing else: what others write to it meanwhile is not seen."""
    staged, disk = tmp_path / "own-0" / "0.stage", 8 * MIB

    def usage(_directory: Path) -> SimpleNamespace:
        used = staged.stat().st_blocks * 512 if staged.exists() else 0
        return SimpleNamespace(total=disk, used=used, free=disk - used)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert shortage(tmp_path, disk) is None
    found = shortage(tmp_path, disk + 1)
    assert found is not None
    assert found.free == disk
    staged.parent.mkdir()
    staged.write_bytes(bytes(MIB))
    assert usage(tmp_path).used > 0
    assert shortage(tmp_path, disk) is None
    again = shortage(tmp_path, disk + 1)
    assert again is not None
    assert again.free == disk


def test_it_is_said_with_the_bytes_and_the_way_to_mend_it() -> None:
    told = str(Shortage(needed=243_000_000, free=67_000_000, directory=Path("/dev/shm")))
    assert "takes 243 MB" in told
    assert "/dev/shm has 67 MB free" in told
    assert "--shm-size=256m" in told


def test_a_job_of_ours_knows_before_what_its_ranks_will_stage(tmp_path: Path) -> None:
    """12 bytes a parameter, sharded over the ranks; nothing where nothing is ever staged."""

    def kept(*sets: str) -> int | None:
        words = [str(tmp_path / "job.yaml"), "--set", "elastic.nproc_per_node=2"]
        for one in sets:
            words += ["--set", one]
        return job_launch(parse(words)).kept(generation(1, "a"))

    (tmp_path / "job.yaml").write_text("model: {preset: small}\ntrain: {pieces: 2}\n")
    sharded = kept()
    assert sharded is not None
    assert 55e6 < sharded < 65e6
    assert kept("parallel.replicate=2") == sharded * 2
    halves = kept("parallel.replicate=2", "elastic.mirror_every=0")
    assert halves == sharded, "without mirrors each replica stages what it writes"
    nothing = ("elastic.mirror_every=0", "checkpoint.every=0", "checkpoint.at_end=false")
    assert kept(*nothing) is None
