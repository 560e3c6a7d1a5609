"""Which of several endpoints belong together."""

from __future__ import annotations

import pytest

from rendezvous.complaints import AGAIN, Complaints
from rendezvous.etcd.cluster import Cluster, decode_mark, encode_mark

X, Y, NEW = 0xA1, 0xB2, 0xC3


def _heard(addresses: str, said: dict[str, int], marks: dict[str, int] | None = None) -> Cluster:
    cluster = Cluster(list(addresses))
    for address, number in said.items():
        cluster.hear(address, number)
    for address, mark in (marks or {}).items():
        cluster.read(address, mark)
    cluster.settle()
    return cluster


def test_one_alone_is_at_home():
    assert _heard("a", {"a": X}).at_home("a")


@pytest.mark.parametrize("order", ["abc", "cab", "acb"])
def test_most_of_them_are_at_home_whoever_speaks_first(order: str):
    ids = {"a": X, "b": X, "c": Y}
    cluster = _heard("abc", {address: ids[address] for address in order})
    assert [cluster.at_home(address) for address in "abc"] == [True, True, False]
    assert "another etcd cluster (b2) than the others (a1)" in cluster.refusal("c")


def test_a_stranger_that_alone_answers_is_not_believed():
    cluster = _heard("abc", {"c": Y})
    assert cluster.home == 0
    assert "1 of 3 endpoints answer; 2 are needed" in cluster.refusal("c")


def test_half_of_them_will_do_where_the_others_are_silent():
    assert _heard("ab", {"a": X}).at_home("a")
    assert _heard("abcd", {"a": X, "b": X}).at_home("b")


def test_two_of_two_clusters_are_both_refused():
    cluster = _heard("ab", {"a": X, "b": Y})
    assert cluster.home == 0
    assert "b to b2" in cluster.refusal("a")
    assert "a to a1" in cluster.refusal("b")


def test_the_record_of_a_leader_tells_where_a_list_has_aged():
    cluster = _heard("abc", {"c": X}, {"c": X})
    assert cluster.at_home("c")


def test_of_two_with_a_record_neither_is_believed():
    assert _heard("ab", {"a": X, "b": Y}, {"a": X, "b": Y}).home == 0


def test_one_endpoint_that_changes_is_a_stranger():
    cluster = _heard("abc", {"a": X, "b": X, "c": X})
    cluster.hear("c", Y)
    assert not cluster.at_home("c")
    assert cluster.is_open("c")
    cluster.read("c", 0)
    assert not cluster.at_home("c")
    assert not cluster.is_open("c")


def test_a_cluster_that_holds_our_record_is_ours_restored():
    cluster = _heard("abc", {"a": X, "b": X, "c": X})
    cluster.hear("c", NEW)
    cluster.read("c", X)
    assert cluster.home == NEW
    assert cluster.at_home("c")
    assert not cluster.at_home("a")


def test_a_cluster_that_all_belong_to_by_now_is_home():
    cluster = _heard("abc", {"a": X, "b": X, "c": X})
    for address in "abc":
        assert cluster.home == X
        cluster.hear(address, NEW)
    assert cluster.home == NEW


def test_a_mark_is_read_as_written_and_nothing_else_is_one():
    assert decode_mark(encode_mark(X)) == X
    assert decode_mark(encode_mark(2**64 - 1)) == 2**64 - 1
    for value in (b"", b"garbage", b"\xff", b"1" * 17):
        assert decode_mark(value) == 0


def test_a_complaint_is_made_at_once_and_each_minute():
    complaints = Complaints()
    assert complaints.due("a", 5.0)
    assert not complaints.due("a", 6.0)
    assert complaints.due("b", 6.0)
    assert complaints.due("a", 5.0 + AGAIN)
    assert complaints.over("a")
    assert not complaints.over("a")
    assert complaints.due("a", 70.0)
