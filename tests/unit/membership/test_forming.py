"""The first generation: who is waited for, and how long."""

from __future__ import annotations

import pytest

from rendezvous.membership import EndJob, KeepSpare, Persist, Publish, Refuse
from tests.unit.membership.story import Story


def test_a_full_house_begins_at_once():
    story = Story()
    story.join("a", "b", "c")
    assert story.published() == []
    story.join("d")
    assert story.published() == ["abcd"]
    generation = story.only(Publish).generation
    assert generation.number == 1
    assert generation.reason == "4 nodes joined"
    assert generation.world_size == 8
    assert story.only(Publish).to == ("a", "b", "c", "d")


def test_enough_nodes_wait_for_a_last_call():
    story = Story()
    story.join("a", "b")
    assert story.after(0.9) == []
    story.join("c")
    story.after(0.2)
    assert story.published() == ["abc"], "a third node does not prolong the last call"


def test_too_few_nodes_wait_until_the_join_timeout():
    story = Story(join_timeout=20.0)
    story.join("a")
    assert story.only(KeepSpare).reason == "waiting for nodes: 1 here, at least 2 needed"
    assert story.after(19.9) == []
    story.after(0.2)
    end = story.only(EndJob)
    assert (end.status, end.to) == ("stopped", ("a",))
    assert end.reason == "1 node after 20 s, at least 2 needed"


def test_a_node_that_goes_before_the_beginning_is_not_in_it():
    story = Story()
    story.join("a", "b", "c")
    story.cut("b")
    story.after(1.0)
    assert story.published() == ["ac"]


def test_the_number_of_nodes_is_a_multiple():
    story = Story(node_multiple=2)
    story.join("a", "b", "c")
    story.after(1.0)
    assert story.published() == ["ab"]
    story.join("d")
    assert "enters with the next generation, in 30.0 s" in story.only(KeepSpare).reason


def test_more_nodes_than_fit_are_spares():
    story = Story()
    story.join("a", "b", "c", "d")
    story.join("e")
    assert story.only(KeepSpare).reason == "node e is a spare: the job has its 4 nodes"


def test_a_generation_is_stored_before_it_is_told():
    story = Story()
    story.join("a", "b", "c", "d")
    kinds = [type(effect) for effect in story.effects]
    assert kinds.index(Persist) < kinds.index(Publish)
    assert story.record is not None
    assert story.record.generation == story.generation


def test_the_first_join_fixes_the_spec():
    story = Story()
    story.join("a")
    story.join("b", spec=Story(max_nodes=8).spec)
    refusal = story.only(Refuse)
    assert not refusal.retryable
    assert "max_nodes is 4 here and 8 there" in refusal.reason


def test_a_node_without_slots_is_refused():
    story = Story()
    story.join("a", slots=0)
    assert story.only(Refuse).reason == "a node needs at least 1 slot"
    assert story.membership.record is None


def test_joining_twice_changes_nothing():
    story = Story()
    story.join("a")
    story.join("a", "a")
    story.join("b", "c", "d")
    assert story.members == "abcd"


@pytest.mark.parametrize("slots", [1, 8])
def test_ranks_follow_the_slots(slots):
    story = Story(max_nodes=3)
    story.join("a", slots=slots)
    story.join("b", "c", slots=2)
    assert story.generation.first_rank("b") == slots
    assert story.generation.first_rank("c") == slots + 2
