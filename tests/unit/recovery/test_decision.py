"""What to go on from, and who gives what to whom."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.checkpoint.geometry import Box, intersect, slices
from trainer.recovery.decision import Need, Offer, decide, subtract


def rows(first: int, count: int) -> Box:
    return Box((first, 0), (count, 4))


def need(rank: int, box: Box, node: str = "a") -> Need:
    return Need(rank=rank, node=node, boxes={"w": [box]})


def offer(
    rank: int,
    box: Box,
    *,
    version: int = 7,
    made_in: int = 1,
    node: str = "a",
    kind: str = "worker",
    key: str = "past",
) -> Offer:
    return Offer(
        version=version,
        made_in=made_in,
        rank=rank,
        node=node,
        kind=kind,
        key=key,
        boxes={"w": [box]},
    )


def test_survivors_keep_their_own_shards_and_nothing_crosses_the_wire():
    recovery = decide(
        [need(0, rows(0, 2)), need(1, rows(2, 2))], [offer(0, rows(0, 2)), offer(1, rows(2, 2))]
    )
    assert recovery.version == 7
    assert recovery.source == "peers"
    assert all(move.source == move.target for move in recovery.moves)


def test_a_lost_shard_without_a_copy_sends_all_back_to_the_mirrors():
    survivors = [offer(0, rows(0, 2), version=9)]
    mirrors = [
        offer(0, rows(0, 2), version=5, kind="mirror", key="own-0"),
        offer(0, rows(2, 2), version=5, kind="mirror", key="own-1"),
    ]
    recovery = decide([need(0, rows(0, 2)), need(1, rows(2, 2))], survivors + mirrors)
    assert (recovery.version, recovery.source) == (5, "mirror")
    assert [(move.source, move.key, move.target) for move in recovery.moves] == [
        (0, "own-0", 0),
        (0, "own-1", 1),
    ]


def test_a_replica_gives_the_lost_shard_and_no_step_is_lost():
    recovery = decide([need(0, rows(0, 4)), need(1, rows(0, 4))], [offer(0, rows(0, 4), version=9)])
    assert (recovery.version, recovery.source) == (9, "peers")


def test_storage_that_is_newer_than_memory_wins():
    assert decide([need(0, rows(0, 2))], [offer(0, rows(0, 2), version=5)], above=5) is None


def test_a_version_that_was_made_twice_is_never_put_together_from_both():
    """Rank 1's node had been given up, and made version 9 by itself."""
    needs = [need(0, rows(0, 2)), need(1, rows(2, 2))]
    given_up = offer(1, rows(2, 2), version=9, made_in=3)
    others = [offer(0, rows(0, 2), version=9, made_in=4)]
    mirrors = [
        offer(0, rows(0, 4), version=8, made_in=3, kind="mirror", key="own-0"),
    ]
    recovery = decide(needs, [given_up, *others, *mirrors])
    assert (recovery.version, recovery.made_in) == (8, 3)
    whole = [*others, offer(0, rows(2, 2), version=9, made_in=4, kind="mirror", key="own-1")]
    recovery = decide(needs, [given_up, *whole])
    assert (recovery.version, recovery.made_in) == (9, 4)
    assert {move.source for move in recovery.moves} == {0}


def test_nothing_to_go_on_from():
    assert decide([need(0, rows(0, 2))], []) is None


def test_the_nearest_holder_gives():
    holders = [
        offer(0, rows(0, 4), node="far"),
        offer(1, rows(0, 4), node="near", kind="mirror", key="own-0"),
        offer(2, rows(0, 4), node="near"),
    ]
    recovery = decide([need(3, rows(0, 4), node="near")], holders)
    assert [move.source for move in recovery.moves] == [2]


def test_a_new_cut_is_put_together_from_the_old_ones():
    old = [offer(rank, rows(rank, 1)) for rank in range(4)]
    recovery = decide([need(0, rows(0, 3)), need(1, rows(3, 1))], old)
    taken = {(move.target, move.box) for move in recovery.moves}
    assert taken == {(0, rows(0, 1)), (0, rows(1, 1)), (0, rows(2, 1)), (1, rows(3, 1))}


boxes = st.tuples(
    st.tuples(st.integers(0, 6), st.integers(0, 6)), st.tuples(st.integers(1, 6), st.integers(1, 6))
).map(lambda pair: Box(*pair))


@settings(deadline=None)
@given(boxes, boxes)
def test_what_is_left_and_what_is_taken_make_up_the_box(box, other):
    hole = intersect(box, other)
    if hole is None:
        return
    count = np.zeros((12, 12), dtype=int)
    for part in (hole, *subtract(box, hole)):
        count[slices(part)] += 1
    assert (count[slices(box)] == 1).all()
    assert count.sum() == box.volume


@given(st.lists(boxes, min_size=1, max_size=6), boxes)
@settings(max_examples=200, deadline=None)
def test_a_box_is_covered_once_or_not_at_all(held, wanted):
    offers = [offer(rank, box, key=str(rank)) for rank, box in enumerate(held)]
    recovery = decide([need(9, wanted)], offers)
    there = np.zeros((12, 12), dtype=bool)
    for box in held:
        there[slices(box)] = True
    if recovery is None:
        assert not there[slices(wanted)].all()
        return
    count = np.zeros((12, 12), dtype=int)
    for move in recovery.moves:
        assert intersect(move.box, held[move.source]) == move.box
        count[slices(move.box)] += 1
    assert (count[slices(wanted)] == 1).all()
    assert count.sum() == wanted.volume


@pytest.mark.parametrize("topology", [None, "zone"])
def test_a_buddy_is_another_node_and_elsewhere_if_it_can_be(topology):
    from rendezvous.generation import Member
    from trainer.recovery.buddies import buddy

    def member(node: str, zone: str) -> Member:
        return Member(
            node=node, incarnation=1, slots=1, host="h", store_endpoint="h:1", labels={"zone": zone}
        )

    members = [member("a", "x"), member("b", "x"), member("c", "y")]
    assert buddy("a", members, topology).node == ("b" if topology is None else "c")
    assert buddy("c", members, topology).node == "a"
    assert buddy("a", members[:1], topology) is None
    assert buddy("z", members, topology) is None
    assert buddy("a", members[:2], topology).node == "b"
