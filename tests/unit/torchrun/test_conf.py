"""--rdzv-conf of the backend `remesh`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.rendezvous import RendezvousParameters

from rendezvous.errors import ConfigurationError
from rendezvous.torchrun.service_settings import ServiceSettings


def read(*, endpoint: str = "127.0.0.1", nodes: tuple[int, int] = (1, 4), **conf: Any) -> Any:
    least, most = nodes
    return ServiceSettings.read(
        RendezvousParameters("remesh", endpoint, "job", least, most, None, **conf)
    )


def test_what_torchrun_passes_by_default_is_enough() -> None:
    settings = read(timeout=900)
    assert settings.endpoints == ["127.0.0.1:29400"]
    assert settings.address == "127.0.0.1"
    assert (settings.spec.min_nodes, settings.spec.max_nodes) == (1, 4)
    assert settings.spec.max_restarts >= 1_000_000, "torchrun counts restarts itself"
    assert settings.spec.last_call == 30.0
    assert settings.security.credentials() is None


def test_several_endpoints() -> None:
    settings = read(endpoint="127.0.0.1:1,[::1]:2,localhost")
    assert settings.endpoints == ["127.0.0.1:1", "[::1]:2", "localhost:29400"]


def test_times_and_restarts_are_the_jobs() -> None:
    settings = read(beat_timeout="10", grow_interval="1", join_timeout="7", max_restarts="3")
    assert (settings.spec.beat_timeout, settings.spec.leader_grace) == (10.0, 10.0)
    assert (settings.spec.grow_interval, settings.spec.join_timeout) == (1.0, 7.0)
    assert settings.spec.max_restarts == 3


def test_large_jobs_get_a_leader_grace_that_fits() -> None:
    assert read(nodes=(1, 20_000)).spec.leader_grace > 5.0


def test_a_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-long-secret\n")
    assert read(token_file=str(file)).security.token == "a-long-secret"


@pytest.mark.parametrize(
    ("conf", "told"),
    [
        ({"lease": "3"}, "lease is unknown"),
        ({"beat_timeout": "soon"}, "beat_timeout=soon"),
        ({"grow_interval": "-1"}, "grow_interval=-1"),
        ({"max_restarts": "many"}, "max_restarts=many"),
        ({"reconnect_grace": "9"}, "reconnect_grace"),
        ({"leader_grace": "1"}, "leader_grace"),
        ({"tls_ca": "/nowhere/ca.pem"}, "ca.pem"),
        ({"tls_cert": "/nowhere/cert.pem"}, "cert.pem"),
        ({"token_file": "/nowhere/token"}, "token"),
        ({"endpoint": "a:b"}, "HOST:PORT"),
    ],
)
def test_mistakes_are_named(conf: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        read(**conf)
