"""The same store contract, and whole saves, on a real S3-speaking server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.integration.checkpoint.flaky import flaky
from tests.integration.checkpoint.s3 import s3_server
from trainer.checkpoint import Checkpointer, log
from trainer.checkpoint.keep import Keep
from trainer.checkpoint.objects import PART_BYTES
from trainer.checkpoint.store import open_store
from trainer.checkpoint.writer import BackgroundWriter
from trainer.errors import CheckpointDamaged, CheckpointError, GenerationOver


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server("remesh-test") as found:
        yield found


@pytest.fixture
def bucket(endpoint: str) -> str:
    return "s3://remesh-test"


@pytest.fixture
def url(bucket: str) -> str:
    return f"{bucket}/{secrets.token_hex(4)}/run"


def test_objects_are_written_whole_read_in_parts_and_created_once(url: str) -> None:
    store = open_store(url)
    assert store.names("data") == []
    big = torch.randint(0, 256, (2 * PART_BYTES + 12345,), dtype=torch.uint8).numpy()
    store.write("data/a/x.bin", [b"head", big.data])
    assert store.size("data/a/x.bin") == 4 + len(big)
    assert store.read("data/a/x.bin", 2, 4) == b"ad" + big[:2].tobytes()
    target = bytearray(1000)
    arrived = bytearray()
    count = store.read_into("data/a/x.bin", 4 + PART_BYTES, memoryview(target), arrived.extend)
    assert count == 1000
    assert arrived == target
    assert target == big[PART_BYTES : PART_BYTES + 1000].tobytes()
    assert store.create("log/1.json", b"first")
    assert not store.create("log/1.json", b"second")
    assert store.read("log/1.json") == b"first"
    assert store.names("data") == ["a"]
    assert store.age("data/a", now=2e9) > 0
    store.remove("log/1.json")
    store.remove("log/1.json")
    store.remove_tree("data/a")
    assert store.names("data") == []
    with pytest.raises(FileNotFoundError):
        store.size("data/a/x.bin")


def test_a_store_that_can_not_be_reached_is_said_to_be_so(url: str) -> None:
    with pytest.raises(CheckpointError, match="nosuch://x"):
        open_store("nosuch://x/y")
    ck = Checkpointer("s3://no-such-bucket/x", identity={}, rank=0, world_size=1, generation=1)
    with pytest.raises(CheckpointError, match="bucket"):
        ck.save(1, {"a": torch.ones(3)}, {})


def test_save_load_fence_and_keep(url: str, tmp_path: Path) -> None:
    state = {"a": torch.randn(1000, 30), "b": torch.arange(5)}
    old = Checkpointer(
        url,
        identity={"m": 1},
        rank=0,
        world_size=1,
        generation=1,
        keep=Keep(keep=2),
        staging=tmp_path / "stage",
    )
    for version in (10, 20, 30):
        commit = old.save(version, state, {"cursor": version})
        assert commit.path.startswith(url)
    writer = BackgroundWriter()
    staged = old.stage(40, state, {"cursor": 40})
    assert staged is not None
    outcome = writer.submit(staged.wait()).result(timeout=120)
    assert (outcome.error, outcome.version) == (None, 40)
    writer.close()
    store = open_store(url)
    assert [s.version for _, s in log.summaries(store) if not isinstance(s, CheckpointDamaged)] == [
        40,
        30,
    ]
    assert len(store.names("data")) == 2

    new = Checkpointer(url, identity={"m": 1}, rank=0, world_size=1, generation=2)
    with pytest.raises(GenerationOver):
        old.save(50, state, {})
    target = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    loaded = new.load(target)
    assert loaded is not None
    assert (loaded.version, loaded.values) == (40, {"cursor": 40})
    assert all(torch.equal(target[name], state[name]) for name in state)


def test_connections_that_break_are_tried_again(url: str, endpoint: str) -> None:
    state = {f"w{index}": torch.randn(3 << 20) for index in range(6)}
    with flaky(endpoint) as wire:
        options = {"client_kwargs": {"endpoint_url": wire.endpoint}}
        checkpointer = Checkpointer(
            url, identity={}, rank=0, world_size=1, generation=1, storage_options=options
        )
        checkpointer.save(1, state, {})
        found = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        assert checkpointer.load(found) is not None
        assert wire.cuts > 0
    assert all(torch.equal(found[name], state[name]) for name in state)
    with pytest.raises(CheckpointError, match=r"reached|connect"):
        checkpointer.save(2, state, {})
    direct = Checkpointer(url, identity={}, rank=0, world_size=1, generation=2)
    assert direct.newest_version() == 1
