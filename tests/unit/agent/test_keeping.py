"""What an agent does with what its workers staged, and with what they could not tell it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rendezvous.generation import Generation, Member
from trainer.agent import keeping as module
from trainer.agent.keeping import Keeping
from trainer.checkpoint import Checkpointer
from trainer.checkpoint import writer as writer_module
from trainer.checkpoint.staging import own_directory

ALONE = Generation(
    number=1,
    members=(Member(node="a", incarnation=1, slots=1, host="127.0.0.1", store_endpoint="h:1"),),
    reason="test",
)


def worker_of(keeping: Keeping, folder: Path) -> Checkpointer:
    """The one rank of the keeping's node, as it stages its state."""
    return Checkpointer(
        folder / "checkpoints",
        identity={},
        rank=0,
        world_size=1,
        generation=1,
        staging=keeping.directory / own_directory(0),
    )


async def test_a_save_is_written_once_whether_it_was_told_of_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. a worker stages version 1 and says so; 2. stages version 2, and dies before it can;
    3. both are committed, each once."""
    monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path)
    told: list[tuple[str, dict[str, Any]]] = []
    both = asyncio.Event()

    def report(event: str, fields: dict[str, Any]) -> None:
        told.append((event, fields))
        if len(told) == 2:
            both.set()

    keeping = Keeping("a", None, topology=None, report=report)
    worker = worker_of(keeping, tmp_path)
    for version in (1, 2):
        staged = worker.stage(version, {"w": torch.full((8,), float(version))}, {})
        assert staged is not None
        path = staged.wait()
        if version == 1:
            keeping.staged(path, ALONE)
    keeping.worker_ended(0, ALONE)
    keeping.worker_ended(0, ALONE)
    async with asyncio.timeout(60):
        await both.wait()
    await asyncio.to_thread(keeping.close)
    assert sorted((event, fields["version"]) for event, fields in told) == [
        ("checkpoint.commit", 1),
        ("checkpoint.commit", 2),
    ]


async def test_a_generation_without_a_node_ends_the_saves_that_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. versions 1 and 2 are written and wait for the parts of b and c; 2. c is told to leave, b
    is lost, and the next generation has a alone: version 1 is over, as it wants b's part, version
    2 is waited for; 3. the node leaves: that is over too, and what is not saved is known."""
    monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path)
    told: list[tuple[str, dict[str, Any]]] = []
    keeping = Keeping("a", None, topology=None, report=lambda *event: told.append(event))
    members = [
        Member(node=node, incarnation=1, slots=1, host=node, store_endpoint="h:1") for node in "abc"
    ]
    three = Generation(number=1, members=tuple(members), reason="test")
    keeping.began(three)
    worker = worker_of(keeping, tmp_path)
    for version, node in ((1, "b"), (2, "c")):
        staged = worker.stage(version, {"w": torch.full((8,), float(version))}, {})
        assert staged is not None
        path = staged.wait()
        description = json.loads(path.read_bytes())
        description["commit"] |= {"writers": [0, 1], "nodes": {"a": [0], node: [1]}}
        path.write_text(json.dumps(description))
        keeping.staged(path, three)
        async with asyncio.timeout(60):
            while path.with_suffix(".pending").exists():
                await asyncio.sleep(0.01)
    keeping.without(["c"], three)
    keeping.began(replace(ALONE, number=2))
    async with asyncio.timeout(60):
        while not told:
            await asyncio.sleep(0.01)
    assert [(event, fields["version"], fields["error"]) for event, fields in told] == [
        ("checkpoint.failed", 1, "node b was lost with the part of rank 1")
    ]
    keeping.give_up()
    unsaved = await keeping.settled()
    assert unsaved is not None
    assert (unsaved.version, unsaved.error) == (2, "no part came from rank 1")
    await asyncio.to_thread(keeping.close)


@pytest.mark.parametrize("error", ["", "the disk is full"])
async def test_a_save_that_failed_is_told_as_failed_also_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    """An error of the file system may have no text, and an empty one would mean that none was."""
    told: list[tuple[int, str]] = []

    def fail(*_: object) -> None:
        raise OSError(error)

    monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(writer_module, "write", fail)
    keeping = Keeping(
        "a",
        None,
        topology=None,
        report=lambda *_: None,
        saved=lambda _name, *save: told.append(save),
    )
    staged = worker_of(keeping, tmp_path).stage(1, {"w": torch.ones(8)}, {})
    assert staged is not None
    keeping.staged(staged.wait(), ALONE)
    await keeping.settled()
    assert told == [(1, error or module.NO_REASON)]
    await asyncio.to_thread(keeping.close)


async def test_a_slot_that_is_staged_anew_is_saved_though_its_last_save_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. version 1 is written and waits for another rank's part, which never comes; 2. its slot
    is free, and takes version 3: that is written too."""
    monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path)
    keeping = Keeping("a", None, topology=None, report=lambda *_: None)
    worker = worker_of(keeping, tmp_path)
    slots = []
    for version in (1, 2, 3):
        staged = worker.stage(version, {"w": torch.full((8,), float(version))}, {})
        assert staged is not None
        path = staged.wait()
        if version == 1:
            description = json.loads(path.read_bytes())
            description["commit"]["writers"] = [0, 1]
            path.write_text(json.dumps(description))
        slots.append(path)
        keeping.staged(path, ALONE)
        async with asyncio.timeout(60):
            while path.with_suffix(".pending").exists():
                await asyncio.sleep(0.01)
    assert slots[0] == slots[2]
    keeping.give_up()
    await asyncio.to_thread(keeping.close)


async def test_without_a_secret_no_state_is_given_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older service gives generations none. The run's id, which everybody may know, is none."""
    monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path)
    sent: list[str] = []
    monkeypatch.setattr(module, "send_mirror", lambda _path, _name, to, _key: sent.append(to))
    members = [
        Member(
            node=node,
            incarnation=1,
            slots=1,
            host=node,
            store_endpoint="h:1",
            labels={module.MIRROR_LABEL: f"{node}:9"},
        )
        for node in "ab"
    ]
    two = Generation(number=1, members=tuple(members), reason="test")
    told: list[tuple[str, dict[str, Any]]] = []
    for token, expected in (("", []), ("the job's token", ["b:9"])):
        keeping = Keeping(
            "a", None, token=token, topology=None, report=lambda *event: told.append(event)
        )
        keeping.began(two)
        staged = worker_of(keeping, tmp_path).stage(1, {"w": torch.ones(8)}, {}, mirror=True)
        assert staged is not None
        path = staged.wait()
        for _ in range(2):
            keeping.staged(path, two)
        await keeping.handed_over(60)
        await asyncio.to_thread(keeping.close)
        assert sorted(set(sent)) == expected
        sent.clear()
    await asyncio.sleep(0)
    failures = [fields["error"] for event, fields in told if event == "mirror.failed"]
    assert failures == [module.KEYLESS]
