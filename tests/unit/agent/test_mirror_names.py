"""A mirror comes from another node: what it says of itself is made into paths here."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.agent.greeting import GenerationKey
from trainer.agent.mirrors import MirrorServer, send_mirror
from trainer.checkpoint.staging import FORMAT, Slots

KEY = GenerationKey(1, b"secret")
ATTEMPT = "v00000001-g00001-0000000a"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MirrorServer]:
    made = MirrorServer(tmp_path / "memory" / "node", "127.0.0.1", {})
    made.know(KEY)
    yield made
    made.close()


def staged(folder: Path, **other: Any) -> Path:
    """The description of a slot of a few bytes, as a worker leaves it; `other` keys override."""
    slot = Slots(folder).free()
    assert slot is not None
    data = slot.memory(100)
    data[:100] = np.arange(100, dtype=np.uint8)
    described = {
        "format": FORMAT,
        "version": 1,
        "attempt": ATTEMPT,
        "path": f"data/{ATTEMPT}/00000.safetensors",
        "held_bytes": 100,
        "slot": str(slot.path),
    }
    return slot.publish(described | other, pending=False)


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_mirror_is_kept_under_its_name(tmp_path: Path, server: MirrorServer) -> None:
    path = staged(tmp_path / "own")
    assert send_mirror(path, "fe80::1-own-0", server.endpoint, KEY) == 100
    assert below(tmp_path / "memory") == [
        "node/from-fe80::1-own-0/0.json",
        "node/from-fe80::1-own-0/0.stage",
    ]


@pytest.mark.parametrize("name", ["../x-own-0", "..", "x", "x-own-0/../../y", "", "x-own-0\n"])
def test_a_mirror_with_another_name_makes_nothing(
    tmp_path: Path, server: MirrorServer, name: str
) -> None:
    path = staged(tmp_path / "own")
    with pytest.raises(OSError, match=r".*"):
        send_mirror(path, name, server.endpoint, KEY)
    assert below(tmp_path / "memory") == []


@pytest.mark.parametrize(
    "other",
    [
        {"attempt": "../../home"},
        {"attempt": None},
        {"path": "data/../../x"},
        {"path": "/etc/passwd"},
        {"path": "data/v00000001-g00001-0000000b/00000.safetensors"},
        {"path": ["data"]},
    ],
)
def test_a_mirror_that_would_be_written_elsewhere_is_not_kept(
    tmp_path: Path, server: MirrorServer, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = staged(tmp_path / "own", **other)
    # A sender that checks less than ours.
    monkeypatch.setattr("trainer.agent.mirrors.read_description", lambda _: _unchecked(path))
    with pytest.raises(OSError, match=r".*"):
        send_mirror(path, "a-own-0", server.endpoint, KEY)
    assert below(tmp_path / "memory") == []


def _unchecked(path: Path) -> Any:
    return json.loads(path.read_bytes())


@pytest.mark.filterwarnings("error")
def test_the_server_still_serves_after_strangers(tmp_path: Path, server: MirrorServer) -> None:
    host, _, port = server.endpoint.rpartition(":")
    for line in (b"\n", b"null\n", b"[" * 100_000 + b"\n", b'{"name":1}\n', b"1" * 10_000 + b"\n"):
        with socket.create_connection((host, int(port)), timeout=30) as stranger:
            stranger.settimeout(30)
            stranger.recv(16)
            stranger.sendall(line)
            # Who sends more than is read is cut off.
            with contextlib.suppress(ConnectionError):
                while stranger.recv(100):
                    pass
    assert send_mirror(staged(tmp_path / "own"), "a-own-0", server.endpoint, KEY) == 100
