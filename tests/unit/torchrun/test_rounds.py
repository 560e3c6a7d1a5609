"""When a round ends and the next begins: the rules, one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rendezvous.torchrun.rounds import (
    NO_ROUND,
    End,
    Node,
    Publish,
    Round,
    Terms,
    View,
    Wait,
    decide,
)

TERMS = Terms(min_nodes=2, max_nodes=3, last_call=30.0)


def node(name: str, *, joining: int = 1, arrived: int = 0) -> Node:
    return Node(id=name, arrived=arrived or ord(name), joining=joining, endpoint=f"{name}:1")


def view(*nodes: Node, current: str = "", number: int = 0, over: bool = False) -> View:
    round = Round(number=number, members=tuple(current), store="", reason="")
    return View(nodes={n.id: n for n in nodes}, current=round if number else NO_ROUND, over=over)


def published(decision: object) -> Round:
    assert isinstance(decision, Publish), decision
    return decision.round


def test_the_first_round_waits_for_enough() -> None:
    assert isinstance(decide(view(node("a")), TERMS, None, 100.0), Wait)


def test_the_first_round_waits_for_more_until_the_last_call() -> None:
    seen = view(node("b"), node("a"))
    decision = decide(seen, TERMS, 100.0, 129.0)
    assert decision == Wait("2 nodes wait for more nodes", 130.0)
    first = published(decide(seen, TERMS, 100.0, 130.0))
    assert first == Round(number=1, members=("a", "b"), store="a:1", reason="with a, b")


def test_the_first_round_begins_at_once_when_full() -> None:
    first = published(decide(view(node("c"), node("a"), node("b"), node("d")), TERMS, 1.0, 1.0))
    assert first.members == ("a", "b", "c")


def test_a_round_goes_on_while_nothing_happens() -> None:
    running = view(node("a"), node("b"), node("c"), node("d"), current="abc", number=1)
    assert decide(running, TERMS, None, 0.0) == Wait("3 nodes train, 1 are spare")


def test_a_round_ends_when_a_member_is_lost() -> None:
    assert decide(view(node("a"), current="ab", number=1), TERMS, None, 0.0) == End(1, "lost b")


def test_a_round_ends_when_a_member_asks_for_the_next() -> None:
    asking = view(node("a"), node("b", joining=2), current="ab", number=1)
    assert decide(asking, TERMS, None, 0.0) == End(1, "b restarts its workers")


def test_a_round_ends_for_a_newcomer_only_where_there_is_room() -> None:
    room = view(node("a"), node("b"), node("z"), current="ab", number=1)
    assert decide(room, TERMS, None, 0.0) == End(1, "z joins")


def test_later_rounds_begin_as_soon_as_the_living_are_back() -> None:
    """A spare takes the lost one's place; the survivors keep their order."""
    half = view(node("c", joining=3), node("a"), node("z"), current="cba", number=2, over=True)
    decision = decide(half, TERMS, 0.0, 0.0)
    assert decision == Wait("2 nodes wait for a", 30.0)
    whole = view(
        node("c", joining=3), node("a", joining=3), node("z"), current="cba", number=2, over=True
    )
    second = published(decide(whole, TERMS, 0.0, 0.0))
    assert second.members == ("c", "a", "z")
    assert second.number == 3
    assert second.reason == "without b; with z"


def test_one_that_lives_and_does_not_come_back_is_not_awaited_for_ever() -> None:
    half = view(
        node("a", joining=2), node("b"), node("c", joining=2), current="abc", number=1, over=True
    )
    assert published(decide(half, TERMS, 0.0, 30.0)).members == ("a", "c")


def test_a_run_whose_agents_are_all_new_begins_like_the_first() -> None:
    left = view(node("x"), node("y"), current="ab", number=7, over=True)
    assert decide(left, TERMS, 0.0, 1.0) == Wait("2 nodes wait for more nodes", 30.0)
    assert published(decide(left, TERMS, 0.0, 30.0)).number == 8


nodes = st.lists(
    st.builds(node, st.sampled_from("abcdefgh"), joining=st.integers(0, 5)),
    unique_by=lambda n: n.id,
)


@given(
    nodes=nodes,
    members=st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1),
    number=st.integers(1, 5),
    over=st.booleans(),
    since=st.none() | st.floats(0, 100),
    now=st.floats(0, 100),
    fewest=st.integers(1, 4),
    more=st.integers(0, 4),
)
def test_whatever_is_seen(nodes, members, number, over, since, now, fewest, more) -> None:
    terms = Terms(min_nodes=fewest, max_nodes=fewest + more, last_call=30.0)
    seen = view(*nodes, current="".join(members), number=number, over=over)
    decision = decide(seen, terms, since, now)
    if isinstance(decision, End):
        assert not over
        assert decision.number == number
    if isinstance(decision, Publish):
        next = decision.round
        assert over
        assert next.number == number + 1
        assert terms.min_nodes <= len(next.members) <= terms.max_nodes
        assert len(set(next.members)) == len(next.members)
        assert set(next.members) <= set(seen.nodes), "nobody dead"
        asked = {n.id for n in seen.waiting()}
        assert set(next.members) <= asked, "nobody who did not ask"
        stayed = [m for m in members if m in next.members]
        assert list(next.members[: len(stayed)]) == stayed, "survivors first, in their order"
        assert next.store == seen.nodes[next.members[0]].endpoint
    if isinstance(decision, Wait) and decision.until is not None:
        assert decision.until > now
