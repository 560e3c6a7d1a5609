"""Staged states: whole or not there, two slots, the writer's part, mirrors."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.checkpoint import Checkpointer
from trainer.checkpoint import writer as writer_module
from trainer.checkpoint.mirror import staged_tensors
from trainer.checkpoint.staging import Slots, read_description, staged_bytes
from trainer.checkpoint.store import Store
from trainer.checkpoint.writer import BackgroundWriter, save_staged
from trainer.errors import CheckpointDamaged, CheckpointError, GenerationOver


def one_rank(tmp_path: Path, **options: object) -> Checkpointer:
    defaults: dict[str, object] = {
        "identity": {},
        "rank": 0,
        "world_size": 1,
        "generation": 1,
        "execution": "run",
        "staging": tmp_path / "stage",
    }
    return Checkpointer(tmp_path / "checkpoints", **{**defaults, **options})


def staged(checkpointer: Checkpointer, version: int, state: dict[str, torch.Tensor], **how) -> Path:
    found = checkpointer.stage(version, state, {"v": version}, **how)
    assert found is not None
    return found.wait()


def test_every_version_is_written_with_its_own_bytes(tmp_path: Path) -> None:
    """A field saver wrote its first save's weights again and again (NeMo-RL #3312)."""
    checkpointer = one_rank(tmp_path)
    state = {"w": torch.zeros(5000), "b": torch.zeros(3, dtype=torch.bfloat16)}
    writer = BackgroundWriter()
    for version in (1, 2, 3, 4, 5):
        for tensor in state.values():
            tensor.fill_(version)
        description = staged(checkpointer, version, state)
        for tensor in state.values():
            tensor.fill_(-1)
        assert writer.submit(description).result(timeout=60).error is None
        found = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        loaded = checkpointer.load(found)
        assert loaded is not None
        assert (loaded.version, loaded.values) == (version, {"v": version})
        assert all((tensor == version).all() for tensor in found.values())
    writer.close()


def test_when_both_slots_wait_the_next_is_skipped_or_waits(tmp_path: Path) -> None:
    checkpointer = one_rank(tmp_path)
    state = {"w": torch.ones(10)}
    first, second = staged(checkpointer, 1, state), staged(checkpointer, 2, state)
    assert first != second
    assert checkpointer.stage(3, state, {}, when_busy="skip") is None
    assert not checkpointer.drain(timeout=0)
    assert save_staged(first).error is None
    assert staged(checkpointer, 3, state, when_busy="wait") == first
    assert save_staged(second).version == 2
    assert save_staged(first).version == 3
    assert checkpointer.drain(timeout=0)


def test_a_save_that_has_to_wait_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpointer = one_rank(tmp_path)
    state = {"w": torch.ones(10)}
    first, _ = staged(checkpointer, 1, state), staged(checkpointer, 2, state)
    assert "waits" not in caplog.text

    def written_meanwhile(slots: Slots, condition: Callable[[], bool], timeout: float) -> bool:
        assert save_staged(first).error is None
        return condition()

    monkeypatch.setattr(Slots, "wait", written_meanwhile)
    assert staged(checkpointer, 3, state, when_busy="wait") == first
    assert "version 3 waits: earlier saves are on their way" in caplog.text


def test_the_end_of_a_generation_is_heard_while_storage_is_waited_for(tmp_path: Path) -> None:
    """Both slots wait to be written: so does the next save, and whoever ends the run."""
    over: list[GenerationOver] = []

    def check() -> None:
        for error in over:
            raise error

    checkpointer = one_rank(tmp_path, stands=check)
    state = {"w": torch.ones(10)}
    staged(checkpointer, 1, state)
    staged(checkpointer, 2, state)
    over.append(GenerationOver(1, "a node was lost"))
    with pytest.raises(GenerationOver):
        checkpointer.stage(3, state, {}, when_busy="wait")
    with pytest.raises(GenerationOver):
        checkpointer.drain()


def test_mirrors_alternate_and_one_is_always_whole(tmp_path: Path) -> None:
    checkpointer = one_rank(tmp_path)
    slots = Slots(tmp_path / "stage")
    state = {"w": torch.arange(10.0), "i": torch.arange(3), "step": torch.tensor(7.0)}
    for version in range(1, 6):
        state["w"].fill_(version)
        description = staged(checkpointer, version, state, write=False, mirror=True)
        told, tensors = staged_tensors(description)
        assert (told["version"], told["values"]) == (version, {"v": version})
        (part,) = tensors["w"].parts
        assert torch.equal(part.local, state["w"])
        assert torch.equal(tensors["i"].parts[0].local, state["i"])
        assert torch.equal(tensors["step"].parts[0].local, state["step"])
        slot = slots.free()
        assert slot is not None
        assert slot.version == (version - 1 if version > 1 else -1), "the older is filled next"
        assert slots.idle()


def test_a_slot_filled_anew_before_it_was_written_is_not_written(tmp_path: Path) -> None:
    checkpointer = one_rank(tmp_path)
    description = staged(checkpointer, 1, {"w": torch.ones(10)})
    stale = json.loads(description.read_text()) | {"version": 9}
    description.write_text(json.dumps(stale))
    outcome = save_staged(description)
    assert outcome.error is not None
    assert "not version 9" in outcome.error
    assert checkpointer.newest_version() is None
    with pytest.raises(CheckpointDamaged, match="not version 9"):
        staged_tensors(description)


def test_a_save_in_flight_outlives_its_generation_on_the_same_node(tmp_path: Path) -> None:
    """The worker dies after staging; its successor opens the next generation; the write counts."""
    description = staged(one_rank(tmp_path), 7, {"w": torch.ones(10)})
    successor = one_rank(tmp_path, generation=2)
    outcome = save_staged(description)
    assert outcome.error is None
    assert successor.newest_version() == 7


def test_a_save_in_flight_of_a_node_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    description = staged(one_rank(tmp_path), 7, {"w": torch.ones(10)})
    elsewhere = one_rank(tmp_path, generation=2, staging=tmp_path / "another node")
    outcome = save_staged(description)
    assert outcome.error is not None
    assert "generation 1 is over" in outcome.error
    assert elsewhere.newest_version() is None


def test_an_attempt_whose_committer_was_lost_is_committed_by_the_next_generation(
    tmp_path: Path,
) -> None:
    description = staged(one_rank(tmp_path), 7, {"w": torch.ones(10)})
    one_rank(tmp_path, generation=2, staging=tmp_path / "another node")
    assert save_staged(description).path is None
    third = one_rank(tmp_path, generation=3, staging=tmp_path / "another node")
    assert third.newest_version() == 7
    found = {"w": torch.zeros(10)}
    assert third.load(found) is not None
    assert found["w"].sum() == 10


def test_the_parts_of_lost_ranks_are_not_waited_for_for_ever(tmp_path: Path) -> None:
    description = staged(one_rank(tmp_path), 1, {"w": torch.ones(10)})
    told = json.loads(description.read_text())
    told["commit"]["writers"] = [0, 3, 5]
    description.write_text(json.dumps(told))
    outcome = save_staged(description, patience=0.05)
    assert outcome.error == "no part came from rank 3, 5"
    assert not description.with_suffix(".pending").exists()


def test_what_a_dead_worker_had_staged_is_found_and_half_a_slot_is_free_again(
    tmp_path: Path,
) -> None:
    """It dies before it can say that it has staged a save, and in the middle of the next one."""
    checkpointer = one_rank(tmp_path)
    whole = staged(checkpointer, 1, {"w": torch.ones(100)}, write=True)
    slots = Slots(tmp_path / "stage")
    half = slots.free()
    assert half is not None
    half.memory(4096)
    half.mark.touch()
    assert not slots.all_free()
    assert slots.left_behind() == [whole]
    assert slots.free() is not None
    assert save_staged(whole).error is None
    assert slots.left_behind() == []


def test_no_room_in_shared_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def refuse(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(CheckpointError, match="no room to stage"):
        one_rank(tmp_path).stage(1, {"w": torch.ones(10)}, {})


def test_staging_needs_a_directory_and_the_right_to_commit(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no staging directory"):
        one_rank(tmp_path, staging=None).stage(1, {}, {})
    one_rank(tmp_path, generation=2)
    with pytest.raises(GenerationOver):
        one_rank(tmp_path, generation=1).stage(1, {"w": torch.ones(1)}, {})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}'])
def test_what_describes_no_slot_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "0.json").write_text(text)
    with pytest.raises(CheckpointDamaged):
        read_description(tmp_path / "0.json")
    (tmp_path / "0.stage").write_bytes(b"short")
    with pytest.raises(CheckpointDamaged, match="cut short"):
        staged_bytes(tmp_path / "0.stage", 100)


def test_a_later_version_waits_for_its_turn_and_a_late_one_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. version 1 is held up in its writing, 2 is not: both are committed, in order; 2. version 3
    is held up longer than 4 waits for it: 4 stays the newest."""
    checkpointer = one_rank(tmp_path)
    state = {"w": torch.ones(10)}
    held = threading.Event()
    write_part = writer_module._write_part

    def slow(store: Store, staged: dict[str, Any]) -> None:
        if staged["version"] in (1, 3):
            assert held.wait(60)
        write_part(store, staged)

    monkeypatch.setattr(writer_module, "_write_part", slow)
    writer = BackgroundWriter()
    first, second = (writer.submit(staged(checkpointer, v, state)) for v in (1, 2))
    held.set()
    assert [f.result(timeout=60).path is not None for f in (first, second)] == [True, True]
    assert checkpointer.newest_version() == 2

    held.clear()
    monkeypatch.setattr(writer_module, "TURN", 0.0)
    third, fourth = (writer.submit(staged(checkpointer, v, state)) for v in (3, 4))
    assert fourth.result(timeout=60).path is not None
    held.set()
    late = third.result(timeout=60)
    assert (late.path, late.error) == (None, None)
    assert checkpointer.newest_version() == 4
    writer.close()
