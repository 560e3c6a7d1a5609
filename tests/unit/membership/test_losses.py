"""Nodes that go without notice, and what takes their place."""

from __future__ import annotations

from rendezvous.membership import (
    Beat,
    EndJob,
    Join,
    KeepSpare,
    Leave,
    Listening,
    Note,
    Publish,
    Refuse,
    StreamLost,
    Tick,
)
from tests.unit.membership.story import Story


def test_a_broken_connection_is_believed_after_the_grace():
    story = Story()
    story.begin("a", "b", "c", "d")
    story.cut("b")
    story.after(0.19)
    assert story.published() == []
    story.after(0.02)
    assert story.published() == ["acd"]
    reason = "node b was lost: connection broken, and not back within 0.2 s"
    assert story.generation.reason == reason
    assert story.number == 2


def test_a_silent_node_is_lost_after_the_beat_timeout():
    story = Story()
    story.begin("a", "b", "c")
    incarnation = story.beating.pop("b")
    story.after(1.01)
    assert story.members == "ac"
    assert story.generation.reason == "node b was lost: no beat for 1.0 s"
    assert story.only(Refuse).retryable, "it is told, for when it wakes up"
    story.act(Beat(node="b", incarnation=incarnation))
    assert story.only(Refuse).reason == "node b is not known here, or was lost: join again"
    story.join("b", generation=1)
    assert story.saw(Publish)[0].to == ("b",), "it learns that its generation is over"
    assert story.only(KeepSpare).node == "b"


def test_whatever_a_node_says_proves_that_it_is_alive():
    story = Story()
    story.begin("a", "b", "c")
    story.beating.pop("b")
    for _ in range(8):
        story.after(0.4)
        story.act(Listening(node="b", incarnation=1, generation=1, store_endpoint="b:1"))
    assert story.number == 1


def test_who_comes_back_in_time_was_never_away():
    story = Story()
    story.begin("a", "b", "c")
    story.cut("b")
    story.after(0.1)
    story.join("b", generation=1)
    story.after(5.0)
    assert story.number == 1


def test_the_end_of_an_old_connection_is_no_news():
    story = Story()
    story.begin("a", "b", "c")
    story.join("b", generation=1)
    story.act(StreamLost(node="b", incarnation=1, stream=1))
    story.after(5.0)
    assert story.number == 1


def test_two_nodes_lost_together_cost_one_generation():
    story = Story()
    story.begin("a", "b", "c", "d")
    story.cut("b")
    story.after(0.15)
    story.cut("c")
    story.after(1.0)
    assert story.published() == ["ad"]
    assert story.number == 2


def test_when_most_connections_break_at_once_nobody_is_accused_in_haste():
    story = Story()
    story.begin("a", "b", "c")
    story.cut("a", "b", "c")
    story.after(0.9)
    story.join("a", "b", "c", generation=1)
    story.after(5.0)
    assert story.number == 1


def test_a_spare_takes_the_place_of_the_lost_node_at_once():
    story = Story()
    story.begin("a", "b", "c", "d")
    story.join("e")
    story.cut("b")
    story.after(0.3)
    assert story.published() == ["aecd"], "nobody else moves"


def test_a_spare_with_other_slots_goes_to_the_end():
    story = Story()
    story.begin("a", "b", "c", "d")
    story.join("e", slots=4)
    story.cut("b")
    story.after(0.3)
    assert story.published() == ["acde"]


def test_a_lost_node_makes_spares_where_a_multiple_is_needed():
    story = Story(node_multiple=2)
    story.begin("a", "b", "c", "d")
    story.cut("a")
    story.after(0.3)
    assert story.published() == ["bc"]
    assert story.only(Publish).to == ("b", "c", "d")
    assert story.only(KeepSpare).reason == "node d is a spare: 2 nodes fit the job"
    story.cut("b")
    story.after(0.3)
    assert story.published() == ["dc"], "the spare takes over at once"


def test_below_the_minimum_the_job_waits_and_goes_on():
    story = Story()
    story.begin("a", "b")
    story.cut("b")
    story.after(0.3)
    assert story.published() == []
    spare = story.only(KeepSpare)
    assert spare.generation == 1, "its workers must leave generation 1"
    assert "1 node left, at least 2 needed, waiting up to 60 s" in spare.reason
    story.after(30.0)
    story.join("c")
    assert story.published() == ["ac"]
    assert story.generation.reason == "enough nodes again: 2 nodes"


def test_below_the_minimum_the_job_stops_after_a_while():
    story = Story()
    story.begin("a", "b")
    story.cut("b")
    story.after(61.0)
    end = story.only(EndJob)
    assert end.status == "stopped"
    assert end.reason == "1 node after 60 s, at least 2 needed"


def test_a_node_that_came_back_as_a_new_process_keeps_its_place():
    story = Story()
    story.begin("a", "b", "c")
    story.join("b", incarnation=2)
    assert story.published() == ["abc"]
    assert story.number == 2
    assert story.generation.reason == "node b came back as a new process (incarnation 2)"
    assert story.saw(Refuse)[0].incarnation == 1


def test_the_old_life_of_a_node_is_not_heard_any_more():
    story = Story()
    story.begin("a", "b", "c")
    story.join("b", incarnation=2)
    story.run()
    for event in (
        Beat(node="b", incarnation=1),
        Leave(node="b", incarnation=1),
        StreamLost(node="b", incarnation=1, stream=2),
    ):
        story.act(event)
        assert all(isinstance(effect, Refuse) for effect in story.effects)
    story.join("b", incarnation=1)
    refusal = story.only(Refuse)
    assert refusal.reason == "node b has joined as a newer process (incarnation 2)"
    assert not refusal.retryable
    story.beating["b"] = 2
    story.after(5.0)
    assert story.number == 2


def test_a_node_may_leave_by_its_own_will():
    story = Story()
    story.begin("a", "b", "c")
    story.act(Leave(reason="its agent was told to stop", **story.who("c")))
    assert story.members == "ab"
    assert story.generation.reason == "node c left: its agent was told to stop"


def test_the_loss_of_a_spare_disturbs_nobody():
    story = Story()
    story.begin("a", "b", "c", "d")
    story.join("e")
    story.cut("e")
    story.after(1.0)
    assert story.only(Note).reason.startswith("node e was lost")
    assert story.number == 1


def test_the_next_store_needs_a_socket_that_listens():
    story = Story()
    story.listens = False
    story.begin("a", "b", "c")
    story.cut("c")
    story.after(0.5)
    assert story.number == 1, "node a has not said where the next store will be"
    story.act(Listening(generation=1, store_endpoint="a.example:7", **story.who("a")))
    assert story.members == "ab"
    assert story.generation.store_endpoint == "a.example:7"


def test_a_socket_is_not_waited_for_forever():
    story = Story(boundary_timeout=5.0)
    story.listens = False
    story.begin("a", "b", "c", "d")
    story.cut("d")
    story.act(Listening(generation=1, store_endpoint="b.example:7", **story.who("b")))
    story.after(5.0)
    assert story.number == 1
    story.after(0.3)
    assert story.members == "bc"
    assert "node a is passed over" in "".join(note.reason for note in story.saw(Note))
    assert story.only(KeepSpare).node == "a"


def test_who_never_listens_is_passed_over():
    story = Story(boundary_timeout=5.0)
    story.beating["d"] = 1
    join = Join(
        node="d", incarnation=1, slots=2, host="d", store_endpoint="", spec=story.spec, stream=1
    )
    story.act(join)
    story.join("b", "c")
    story.after(5.9)
    assert story.published() == []
    story.after(0.2)
    assert story.published() == ["bc"]
    story.act(Listening(generation=1, store_endpoint="d:1", **story.who("d")))
    story.run()
    story.after(31.0)
    story.leave_boundary("b", "c")
    assert story.members == "bcd"


def second_generation() -> tuple[Story, str]:
    """Nodes a and b after the loss of c, and the socket at which they meet."""
    story = Story()
    story.begin("a", "b", "c")
    story.cut("c")
    story.after(0.3)
    return story, story.generation.store_endpoint


def test_a_socket_of_an_older_generation_is_no_socket():
    story, used = second_generation()
    story.listens = False
    story.act(Listening(generation=1, store_endpoint=used, **story.who("a")))
    story.act(Listening(generation=2, store_endpoint="a.example:8", **story.who("a")))
    story.act(Listening(generation=1, store_endpoint=used, **story.who("a")))
    story.join("d")
    story.join("b", incarnation=2)
    assert story.generation.store_endpoint == "a.example:8"


def test_a_spare_that_had_a_seat_does_not_fall_back_to_its_old_socket():
    story, used = second_generation()
    story.cut("b")
    story.after(0.3)
    story.act(Listening(generation=1, store_endpoint=used, **story.who("a")))
    story.join("d")
    assert story.members == "ad"
    assert story.generation.store_endpoint not in ("", used)


def test_who_never_heard_that_it_was_first_opens_another_socket():
    """The others may have been at the one it had: it learns what it missed, and that it is over."""
    story = Story()
    story.listens = False
    story.join("a", "b")
    story.after(story.spec.last_call)
    used = story.generation
    story.cut("a")
    story.after(1.5)
    story.beating["a"] = 1
    join = Join(
        node="a",
        incarnation=1,
        slots=2,
        host="a",
        store_endpoint=used.store_endpoint,
        spec=story.spec,
        stream=7,
    )
    told = [type(effect) for effect in story.act(join)]
    assert story.only(Publish).generation == used
    assert told.index(Publish) < told.index(KeepSpare)
    assert story.number == 1
    story.act(Listening(generation=1, store_endpoint="a.example:9", **story.who("a")))
    assert story.published() == ["ab"]
    assert story.generation.store_endpoint == "a.example:9"


def test_a_join_of_an_older_connection_comes_too_late():
    """It names a socket that has served a generation since."""
    story = Story()
    story.begin("a", "b", "c")
    late = Join(
        node="a",
        incarnation=1,
        slots=2,
        host="a",
        store_endpoint=story.generation.store_endpoint,
        spec=story.spec,
        stream=1,
    )
    story.join("a", generation=1)
    story.cut("a")
    story.after(1.5)
    assert story.members == "bc"
    story.act(late)
    refusal = story.only(Refuse)
    assert refusal.reason == "node a has joined on a newer connection"
    assert refusal.retryable
    story.after(60.0)
    assert story.members == "bc"


def test_a_service_that_was_stopped_misses_nobody():
    story = Story()
    story.begin("a", "b", "c")
    story.now += 3600.0
    story.act(Tick())
    story.after(10.0)
    assert story.number == 1
    story.now -= 7200.0
    story.act(Tick())
    story.after(10.0)
    assert story.number == 1
    story.beating.pop("b")
    story.after(1.3)
    assert story.members == "ac", "but it does miss those who are away after that"


def test_a_service_that_is_always_late_misses_the_lost_all_the_same():
    story = Story()
    story.begin("a", "b", "c")
    story.beating.pop("b")
    for _ in range(8):
        deadline = story.membership.next_deadline()
        assert deadline is not None
        story.now = deadline + 0.4
        for node in "ac":
            story.act(Beat(**story.who(node)))
        story.act(Tick())
    assert story.members == "ac"
    assert story.number == 2
