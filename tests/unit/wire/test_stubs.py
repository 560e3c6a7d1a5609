"""The checked-in stubs are what `protos/` generates."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
GENERATOR = runpy.run_path(str(REPOSITORY / "protos" / "generate.py"))


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("stubs")
    GENERATOR["generate"](root, GENERATOR["sources"]())
    return {path.name: path.read_text() for path in (root / "rendezvous/wire").iterdir()}


def test_stubs_are_current(generated: dict[str, str]) -> None:
    kept = {
        path.name: path.read_text()
        for path in (REPOSITORY / "rendezvous/wire").glob("*_pb2*.py*")
        if path.suffix in {".py", ".pyi"}
    }
    assert sorted(kept) == sorted(generated)
    stale = [name for name in generated if kept[name] != generated[name]]
    assert not stale, "run `make protos`"


def test_stubs_load_with_the_oldest_protobuf_that_setup_cfg_allows(
    generated: dict[str, str],
) -> None:
    assert "protobuf>=6.33.5" in (REPOSITORY / "setup.cfg").read_text()
    assert "# Protobuf Python Version: 6.33.5\n" in generated["etcd_pb2.py"]


def test_etcd_messages_leave_etcds_own_package_to_others() -> None:
    from rendezvous.wire import etcd_pb2

    assert etcd_pb2.DESCRIPTOR.package == "remesh.etcd.v3"
    assert etcd_pb2.DESCRIPTOR.name == "rendezvous/wire/etcd.proto"
