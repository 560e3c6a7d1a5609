"""The last save of a job without workers: agents write what lies staged in their memory."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from trainer.checkpoint import Checkpointer, log
from trainer.checkpoint.datafile import BoxEntry, metadata
from trainer.checkpoint.geometry import Box
from trainer.checkpoint.keep import Keep
from trainer.checkpoint.salvage import salvage, staged_versions
from trainer.checkpoint.stager import room_for, stage
from trainer.checkpoint.staging import Slots, read_description
from trainer.checkpoint.store import open_store
from trainer.checkpoint.tensors import LocalTensor, Part

ROWS = 8


class Job:
    """Two nodes, a and b, of one rank each, that have staged versions of a tensor cut in two."""

    def __init__(self, tmp_path: Path) -> None:
        self.memory = {node: tmp_path / node for node in "ab"}
        self.url = str(tmp_path / "checkpoints")
        self.store = open_store(self.url)
        self.opened = log.Writer(self.store, generation=1, execution="run", time=0.0).opened

    def stage(self, rank: int, version: int, *, mirrored: bool = True) -> None:
        """Rank `rank` copies its half of `w`, filled with the version, and its agent mirrors it."""
        node, other = "ab"[rank], "ba"[rank]
        box = Box((rank * ROWS // 2, 0), (ROWS // 2, 3))
        entry = BoxEntry("w", "float32", (ROWS, 3), box)
        part = Part(box, torch.full((ROWS // 2, 3), float(version)))
        slot = Slots(self.memory[node] / "own-0").free()
        assert slot is not None
        attempt = f"v{version:08d}-g00001-0000000f"
        commit = {
            "opened": self.opened,
            "writers": [0, 1],
            "kinds": {"w": ["float32", [ROWS, 3]]},
            "mesh": {},
            "world_size": 2,
            "keep": asdict(Keep()),
        }
        description = {
            "url": self.url,
            "options": {},
            "attempt": attempt,
            "version": version,
            "generation": 1,
            "execution": "run",
            "rank": rank,
            "time": 0.0,
            "block": 4 << 20,
            "path": f"{log.attempt_path(attempt)}/{rank:05d}.safetensors",
            "identity": {},
            "values": {"v": version},
            "commit": commit if rank == 0 else None,
            "mirror": True,
        }
        path = stage(
            slot,
            slot.memory(room_for([entry], [])),
            {"w": LocalTensor("float32", (ROWS, 3), (part,))},
            [entry],
            [],
            metadata(version, 1, attempt),
            description,
            pending=False,
            overlap=False,
        ).wait()
        if mirrored:
            self.mirror(path, other, node)

    def mirror(self, path: Path, to: str, node: str) -> None:
        described = read_description(path)
        slot = Slots(self.memory[to] / f"from-{node}-own-0").free()
        assert slot is not None
        data = path.with_suffix(".stage").read_bytes()[: described["held_bytes"]]
        slot.memory(len(data)).data[: len(data)] = data
        slot.publish({**described, "slot": str(slot.path)}, pending=False)

    def loaded(self) -> tuple[int, float] | None:
        """The newest version in storage, and what its tensor is filled with."""
        reader = Checkpointer(self.url, identity={}, rank=0, world_size=1, generation=2)
        found = {"w": torch.zeros(ROWS, 3)}
        loaded = reader.load(found)
        if loaded is None:
            return None
        assert loaded.values == {"v": loaded.version}
        assert (found["w"] == found["w"][0, 0]).all()
        return loaded.version, float(found["w"][0, 0])


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.mark.parametrize("survivor", ["a", "b"])
def test_one_survivor_saves_its_own_part_and_the_mirror(job: Job, survivor: str) -> None:
    for version in (10, 20):
        job.stage(0, version)
        job.stage(1, version)
    outcome = salvage(job.memory[survivor], node=survivor, patience=0.1)
    assert outcome is not None
    assert (outcome.error, outcome.version) == (None, 20)
    assert outcome.path is not None, "also by the mirror of rank 0's part"
    assert job.loaded() == (20, 20.0)


@pytest.mark.parametrize("survivor", ["a", "b"])
def test_a_mirror_that_did_not_arrive_costs_one_version(job: Job, survivor: str) -> None:
    job.stage(0, 10)
    job.stage(1, 10)
    lost = 1 if survivor == "a" else 0
    job.stage(1 - lost, 20)
    job.stage(lost, 20, mirrored=False)
    outcome = salvage(job.memory[survivor], node=survivor, patience=0.1)
    assert outcome is not None
    assert (outcome.error, outcome.version) == (None, 10)
    assert job.loaded() == (10, 10.0)


def test_nodes_that_leave_together_save_together_whoever_commits(job: Job) -> None:
    """Neither got the other's mirror: what is whole is whole in storage alone."""
    job.stage(0, 10, mirrored=False)
    job.stage(1, 10, mirrored=False)
    outcomes = {}

    def leave(node: str) -> None:
        outcomes[node] = salvage(job.memory[node], node=node, patience=30.0)

    threads = [threading.Thread(target=leave, args=(node,)) for node in "ba"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    a, b = outcomes["a"], outcomes["b"]
    assert a is not None
    assert b is not None
    assert (a.error, b.error) == (None, None)
    assert a.path is not None
    assert b.path is None
    assert job.loaded() == (10, 10.0)


def test_both_hold_everything_and_the_files_don_t_get_into_each_others_way(job: Job) -> None:
    job.stage(0, 10)
    job.stage(1, 10)
    for node in "ab":
        outcome = salvage(job.memory[node], node=node, patience=0.1)
        if node == "a":
            assert outcome is not None
            assert outcome.error is None
        else:
            assert outcome is None, "it is saved already"
    assert job.loaded() == (10, 10.0)


def test_a_part_that_comes_too_late_is_found_by_the_next_start(job: Job) -> None:
    job.stage(0, 10, mirrored=False)
    job.stage(1, 10, mirrored=False)
    outcome = salvage(job.memory["a"], node="a", patience=0.05)
    assert outcome is not None
    assert outcome.error == "no part came from rank 1"
    outcome = salvage(job.memory["b"], node="b", patience=0.05)
    assert outcome is not None
    assert outcome.error == "version 10 was not whole at any node"
    assert job.loaded() is None
    Checkpointer(job.url, identity={}, rank=0, world_size=1, generation=2, execution="run")
    assert job.loaded() == (10, 10.0)


def test_a_later_generation_s_directory_is_left_alone(job: Job) -> None:
    job.stage(0, 10)
    job.stage(1, 10)
    log.Writer(job.store, generation=2, execution="run", time=0.0)
    outcome = salvage(job.memory["a"], node="a", patience=0.1)
    assert outcome is not None
    assert outcome.error is not None
    assert "generation 1 is over" in outcome.error
    assert job.loaded() is None


def test_nothing_staged_is_nothing_to_save(job: Job) -> None:
    assert salvage(job.memory["a"], node="a") is None
    job.stage(0, 10)
    (description,) = job.memory["a"].glob("own-0/*.json")
    description.write_text(json.dumps({"format": "another"}))
    assert staged_versions(job.memory["a"]) == []


def test_a_mirror_is_not_saved_where_only_its_sender_wants_it(tmp_path: Path) -> None:
    """1. both ranks have staged version 1; 2. the mirror that node a has says another place;
    3. node a saves nothing there."""
    job = Job(tmp_path)
    job.stage(0, 1)
    job.stage(1, 1)
    (path,) = (tmp_path / "a").glob("from-*/*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"url": str(tmp_path / "elsewhere")}))
    (version,) = staged_versions(tmp_path / "a")
    assert (version.url, version.mirrors) == (job.url, [])
    assert not (tmp_path / "elsewhere").exists()
