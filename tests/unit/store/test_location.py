"""One word says where a store is."""

from __future__ import annotations

import pytest

from rendezvous.errors import ConfigurationError
from rendezvous.etcd import EtcdClient
from rendezvous.store import MemoryStore
from rendezvous.store.location import open_store, parse_endpoints


async def test_both_kinds() -> None:
    assert isinstance(open_store("memory"), MemoryStore)
    assert isinstance(open_store("etcd://a:2379,b"), EtcdClient)


@pytest.mark.parametrize("location", ["", "etcd", "redis://a", "etcd://", "etcd://a:port"])
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
    ],
)
def test_endpoints(text: str, endpoints: list[str]) -> None:
    assert parse_endpoints(text) == endpoints


@pytest.mark.parametrize("text", ["", "a,,b", "a:", "a:0", "a:65536", ":5", "::1", "http://a:1"])
def test_what_is_not_an_endpoint(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_endpoints(text)
