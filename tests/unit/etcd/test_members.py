"""Which of the addresses that a cluster names are looked at, and which endpoint is used."""

from __future__ import annotations

from typing import Any

import pytest

from rendezvous.etcd.cluster import Cluster
from rendezvous.etcd.endpoint import Endpoint
from rendezvous.etcd.members import MOST, addresses
from rendezvous.etcd.roster import Roster
from rendezvous.wire import etcd_pb2 as wire


def _member(*urls: str, **more: Any) -> wire.Member:
    return wire.Member(clientURLs=urls, **more)


@pytest.mark.parametrize(
    ("url", "tls", "teller", "found"),
    [
        ("http://10.0.0.2:2379", False, "10.0.0.1:2379", ["10.0.0.2:2379"]),
        ("https://etcd-1.example:2379", True, "10.0.0.1:2379", ["etcd-1.example:2379"]),
        ("http://[fd00::1]:2379", False, "10.0.0.1:2379", ["[fd00::1]:2379"]),
        ("https://10.0.0.2:2379", False, "10.0.0.1:2379", []),
        ("http://10.0.0.2:2379", True, "10.0.0.1:2379", []),
        ("unix://10.0.0.2:2379", False, "10.0.0.1:2379", []),
        ("http://0.0.0.0:2379", False, "127.0.0.1:2379", []),
        ("http://[::]:2379", False, "[::1]:2379", []),
        ("http://localhost:2379", False, "10.0.0.1:2379", []),
        ("http://127.0.0.1:2379", False, "10.0.0.1:2379", []),
        ("http://127.0.0.1:2379", False, "127.0.0.1:1", ["127.0.0.1:2379"]),
        ("http://localhost:2379", False, "[::1]:1", ["localhost:2379"]),
        ("http://10.0.0.2", False, "10.0.0.1:2379", []),
        ("http://10.0.0.2:0", False, "10.0.0.1:2379", []),
        ("http://10.0.0.2:99999", False, "10.0.0.1:2379", []),
        ("http://:2379", False, "10.0.0.1:2379", []),
        ("http://\n:2379", False, "10.0.0.1:2379", []),
        ("", False, "10.0.0.1:2379", []),
    ],
)
def test_an_address_is_looked_at_where_it_may_lead_anywhere(
    url: str, tls: bool, teller: str, found: list[str]
) -> None:
    assert addresses([_member(url)], tls=tls, teller=teller) == found


def test_learners_and_crowds_are_left_out() -> None:
    learner = _member("http://h:1", isLearner=True)
    twice = _member("http://h:2", "http://h:2")
    assert addresses([learner, twice], tls=False, teller="h:1") == ["h:2"]
    crowd = [_member(f"http://h:{port}") for port in range(1, 1000)]
    assert len(addresses(crowd, tls=False, teller="h:1")) == MOST


def _endpoints(*addresses: str) -> list[Endpoint]:
    return [Endpoint(address, None) for address in addresses]


def test_what_was_given_stays_and_what_was_learnt_goes_with_the_member() -> None:
    a, b, c = _endpoints("a:1", "b:1", "c:1")
    roster = Roster([a])
    assert roster.learn({"b:1": b, "c:1": c}) == []
    assert set(roster.addresses()) == {"a:1", "b:1", "c:1"}
    roster.leave(a)
    roster.leave(a)
    assert roster.current is b, "who has been left already is not left again"
    assert roster.learn({"c:1": c}) == [], "calls on b may be on their way"
    assert roster.current is c
    assert set(roster.addresses()) == {"a:1", "c:1"}
    assert roster.learn({}) == [b]
    assert roster.current is a
    assert roster.learn({}) == [c]
    assert roster.learn({}) == []


def test_one_that_the_cluster_names_has_no_say_in_which_cluster_is_meant() -> None:
    cluster = Cluster(["a:1", "b:1"])
    for address in ("x:1", "y:1", "z:1"):
        cluster.hear(address, 7)
    assert cluster.home == 0
    cluster.hear("a:1", 5)
    cluster.hear("b:1", 5)
    assert cluster.home == 5
    assert not cluster.at_home("x:1")
    cluster.hear("x:1", 5)
    assert cluster.at_home("x:1")
