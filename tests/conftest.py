"""Fixtures of the whole tree. Imports stay lazy, so that pure tests start in a blink."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.certificates import Certificates
    from tests.etcd_server import EtcdCluster, EtcdServer

# 200 ms an example, as it comes, is a statement about the machine, and a busy one fails by it.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

pytest.register_assert_rewrite("tests.store_contract")


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    """A real etcd of one's own, to be killed, paused and restarted at will."""
    from tests.etcd_server import EtcdServer

    with EtcdServer.start(tmp_path) as server:
        yield server


@pytest.fixture
def etcd_cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    """Three real members of one's own."""
    from tests.etcd_server import EtcdCluster

    with EtcdCluster.start(tmp_path, 3) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, a server's certificate for 127.0.0.1 and a client's."""
    from tests.certificates import Certificates

    return Certificates.make(tmp_path_factory.mktemp("certificates"))
