"""The small values: spec, record, seats, clocks, and what ten thousand nodes cost."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.generation import Generation, Member
from rendezvous.membership import (
    Beat,
    Drain,
    Ended,
    Failure,
    JobSpec,
    Join,
    Listening,
    Membership,
    NewLeader,
    Persist,
    Publish,
    Record,
    Running,
    StreamLost,
    Tick,
)
from rendezvous.membership.patience import Clock, Missed
from rendezvous.membership.seats import seat
from tests.unit.membership.story import Story


def member(node: str, slots: int = 1, incarnation: int = 1) -> Member:
    return Member(
        node=node, incarnation=incarnation, slots=slots, host=node, store_endpoint=f"{node}:1"
    )


# Seats


@pytest.mark.parametrize(
    ("previous", "ready", "count", "expected"),
    [
        ("", "cab", 3, "cab"),
        ("", "cab", 2, "ca"),
        ("abc", "abc", 3, "abc"),
        ("abc", "cba", 3, "abc"),
        ("abcd", "acd", 3, "acd"),
        ("abcd", "acde", 4, "aecd"),
        ("abcd", "adef", 4, "aefd"),
        ("abcd", "ade", 3, "aed"),
        ("ab", "abcd", 4, "abcd"),
        ("abcd", "abcd", 2, "ab"),
        ("abcd", "bcd", 2, "bc"),
        ("abcd", "dxyz", 4, "xyzd"),
        ("abcd", "xyd", 2, "xd"),
    ],
)
def test_seats(previous: str, ready: str, count: int, expected: str):
    seats = seat([member(n) for n in previous], {n: member(n) for n in ready}, count)
    assert "".join(m.node for m in seats) == expected


def test_a_newcomer_takes_a_place_of_its_size_only():
    previous = [member("a", 4), member("b", 8), member("c", 4)]
    ready = {"a": member("a", 4), "c": member("c", 4), "d": member("d", 4), "e": member("e", 8)}
    assert [m.node for m in seat(previous, ready, 4)] == ["a", "e", "c", "d"]


def test_a_node_that_came_back_takes_its_own_place():
    previous = [member("a"), member("b"), member("c")]
    ready = {"d": member("d"), "a": member("a"), "b": member("b", incarnation=2), "c": member("c")}
    seats = seat(previous, ready, 4)
    assert [m.node for m in seats] == ["a", "b", "c", "d"]
    assert seats[1].incarnation == 2


# Spec


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"min_nodes": 0}, "min_nodes is 0"),
        ({"min_nodes": 5, "max_nodes": 4}, r"max_nodes \(4\) is below min_nodes \(5\)"),
        ({"min_nodes": 3, "max_nodes": 3, "node_multiple": 2}, "multiple of 2"),
        ({"max_restarts": -1}, "max_restarts"),
        ({"reconnect_grace": 2.0}, "reconnect_grace"),
        ({"beat_timeout": 0.0, "reconnect_grace": 0.0}, "beat_timeout"),
        ({"leader_grace": 0.5}, "leader_grace"),
        ({"wait": float("nan")}, "wait is nan"),
    ],
)
def test_a_spec_that_makes_no_sense_says_so(changes, words):
    with pytest.raises(ValueError, match=words):
        JobSpec(**changes)


@pytest.mark.parametrize(
    ("nodes", "expected"), [(0, 0), (1, 0), (2, 2), (3, 2), (4, 4), (5, 4), (7, 6), (99, 6)]
)
def test_fitting(nodes, expected):
    assert JobSpec(min_nodes=2, max_nodes=7, node_multiple=2).fitting(nodes) == expected


# Record


def test_a_record_comes_back_from_json():
    first = Member(
        node="a", incarnation=1, slots=2, host="h", store_endpoint="h:1", labels={"rack": "r1"}
    )
    record = Record(
        spec=JobSpec(min_nodes=2, max_nodes=4),
        generation=Generation(number=7, members=(first, member("b")), reason="why", restarts=2),
        active=True,
        restarts=2,
        target=3,
        drains={"a": Drain(incarnation=1, grace=30.0, reason="SIGTERM")},
        set_aside={"z": "it failed"},
        evidence=(Failure(step=3, node="a", rank=1, own=True, counted=True, text="t"),),
        ended=Ended(status="stopped", reason="r", by="nodes"),
    )
    plain = json.loads(json.dumps(record.to_dict()))
    assert Record.from_dict(plain) == record
    plain["later"] = plain["spec"]["later"] = plain["generation"]["later"] = "ignored"
    plain["generation"]["members"][0]["later"] = "ignored"
    assert Record.from_dict(plain) == record


def test_a_record_of_a_later_format_is_not_guessed_at():
    plain = {**Record(spec=JobSpec()).to_dict(), "format": 2}
    with pytest.raises(ValueError, match="format 2"):
        Record.from_dict(plain)


# Time


def test_the_oldest_silence_is_missed_first():
    missed = Missed()
    for now, node in enumerate("abc"):
        missed.hear(node, float(now))
    missed.hear("a", 3.0)
    missed.forget("b")
    assert missed.deadline(1.0) == 3.0
    assert missed.overdue(3.9, 1.0) == ["c"]
    assert missed.overdue(4.0, 1.0) == ["c", "a"]


@given(st.lists(st.floats(-1e9, 1e9), max_size=50))
def test_the_clock_never_goes_back_and_never_jumps_past_what_was_asked_for(moments):
    clock = Clock()
    for moment in moments:
        before, wake = clock.now, clock.now + 1.0
        clock.advance(moment, wake, 1.0)
        assert before <= clock.now <= wake + 1.0 + 1e-6


@pytest.mark.parametrize("offset", [0.0, 1.7e9, -3.0e5])
def test_a_tick_at_the_deadline_is_never_too_early(offset):
    story = Story()
    story.now += offset
    story.begin("a", "b", "c")
    story.beating.clear()
    for _ in range(20):
        deadline = story.membership.next_deadline()
        if deadline is None:
            break
        story.now = deadline
        story.act(Tick())
    assert story.membership.ended is not None


# Scale


def test_ten_thousand_nodes():
    """
    1. ten thousand join: one write, one generation
    2. each beats a few times: no effects, and no more work for each than among few
    3. one is lost: one write, one generation
    """
    nodes = 10_000
    spec = JobSpec(min_nodes=nodes - 10, max_nodes=nodes)
    membership = Membership(lambda: "a secret")
    membership.step(NewLeader(record=None), 0.0)
    effects = []
    began = time.perf_counter()
    for index in range(nodes):
        event = Join(
            node=f"n{index}",
            incarnation=1,
            slots=8,
            host=f"h{index}",
            store_endpoint=f"h{index}:1",
            spec=spec,
        )
        effects += membership.step(event, index * 1e-5)
    assert sum(isinstance(effect, Publish) for effect in effects) == 1
    assert sum(isinstance(effect, Persist) for effect in effects) == 2
    for index in range(nodes):
        assert membership.step(Running(node=f"n{index}", incarnation=1, generation=1), 0.2) == ()
    store = Listening(node="n0", incarnation=1, generation=1, store_endpoint="h0:2")
    assert membership.step(store, 0.3) == ()
    for beat in range(3):
        for index in range(nodes):
            now = 0.3 + beat * 0.3 + index * 1e-5
            assert membership.step(Beat(node=f"n{index}", incarnation=1), now) == ()
    effects = list(membership.step(StreamLost(node="n7", incarnation=1), 1.1))
    deadline = membership.next_deadline()
    assert deadline == pytest.approx(1.3)
    effects += membership.step(Tick(), 1.3)
    deadline = membership.next_deadline()
    assert deadline is not None
    for index in range(nodes):
        if index != 7:
            assert membership.step(Beat(node=f"n{index}", incarnation=1), 1.4) == ()
    effects += membership.step(Tick(), 2.3)
    assert [type(e) for e in effects if isinstance(e, Persist | Publish)] == [Persist, Publish]
    assert len(membership.generation.members) == nodes - 1
    assert time.perf_counter() - began < 60.0
