"""One word says where a store is."""

from __future__ import annotations

import pytest

from rendezvous.errors import ConfigurationError
from rendezvous.etcd import EtcdClient
from rendezvous.store import MemoryStore
from rendezvous.store.location import open_store, parse_endpoints, parse_etcd


async def test_both_kinds() -> None:
    assert isinstance(open_store("memory"), MemoryStore)
    assert isinstance(open_store("etcd://a:2379,b"), EtcdClient)


@pytest.mark.parametrize(
    ("location", "tls", "learn"),
    [
        ("etcd://a,b", False, True),
        ("etcds://a,b,", True, True),
        ("etcd://a,b?learn=0", False, False),
        ("etcds://a,b/?learn=1", True, True),
    ],
)
def test_an_etcd_in_parts(location: str, tls: bool, learn: bool) -> None:
    etcd = parse_etcd(location)
    assert (etcd.endpoints, etcd.tls, etcd.learn) == (["a:2379", "b:2379"], tls, learn)


@pytest.mark.parametrize(
    "location",
    [
        *("", "etcd", "redis://a", "etcd://", "etcd://a:port", "etcd://,", "etcd://?learn=0"),
        *("etcd://a?learn", "etcd://a?learn=2", "etcd://a?learn=0&x=1"),
    ],
)
async def test_what_is_not_a_store(location: str) -> None:
    with pytest.raises(ConfigurationError):
        open_store(location)


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("a", ["a:2379"]),
        ("a:1,b:2", ["a:1", "b:2"]),
        ("a, b:2/", ["a:2379", "b:2"]),
        ("[::1]", ["[::1]:2379"]),
        ("[::1]:5", ["[::1]:5"]),
        ("::1", ["[::1]:2379"]),
        ("a:1,", ["a:1"]),
    ],
)
def test_endpoints(text: str, endpoints: list[str]) -> None:
    assert parse_endpoints(text) == endpoints


@pytest.mark.parametrize("text", ["", "a,,b", "a:", "a:0", "a:65536", ":5", "http://a:1", "a b"])
def test_what_is_not_an_endpoint(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_endpoints(text)
