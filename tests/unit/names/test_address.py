"""host:port of either kind of address, and where to listen so that others reach it."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from trainer.address import (
    is_loopback,
    join_endpoint,
    listening_place,
    own_address,
    split_endpoint,
)


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [("h", "h:7"), ("10.0.0.1", "10.0.0.1:7"), ("fe80::1%eth0", "[fe80::1%eth0]:7")],
)
def test_what_is_written_is_read(host: str, endpoint: str) -> None:
    assert join_endpoint(host, 7) == endpoint
    assert split_endpoint(endpoint) == (host, 7)


@pytest.mark.parametrize("endpoint", ["h", "h:", "h:x", "h:²", ""])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split_endpoint(endpoint)


def names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def resolved(_host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


@pytest.mark.parametrize(
    ("addresses", "listened"),
    [
        (["10.0.0.1"], "10.0.0.1"),
        (["127.0.1.1"], ""),  # a machine's own name, as Debian writes it into /etc/hosts
        (["10.0.0.1", "10.1.0.1"], ""),  # who knows by which of them others call it
    ],
)
def test_a_name_is_listened_on_where_it_means_one_address(
    addresses: list[str], listened: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, *addresses)
    assert listening_place("node7", 5) == (socket.AF_INET, (listened, 5))


def test_an_address_is_listened_on_alone() -> None:
    assert listening_place("192.0.2.7", 5) == (socket.AF_INET, ("192.0.2.7", 5))
    assert listening_place("127.0.0.1", 5) == (socket.AF_INET, ("127.0.0.1", 5))
    family, place = listening_place("2001:db8::7", 5)
    assert (family, place[:2]) == (socket.AF_INET6, ("2001:db8::7", 5))


def test_ones_own_address_is_of_the_others_kind() -> None:
    assert own_address("127.0.0.1:1") == "127.0.0.1"
    assert own_address("[::1]:1") == "::1"


def test_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.9", "::1")))
    assert not any(map(is_loopback, ("10.0.0.1", "::", "node7", "127.example")))
