"""What the nodes of a generation know each other by: theirs alone, and no other generation's."""

from __future__ import annotations

from collections.abc import Iterator

from rendezvous.codec import generation_from_wire, generation_to_wire
from rendezvous.generation import Generation
from rendezvous.membership import Membership, NewLeader
from rendezvous.outside.fields import Fields
from rendezvous.wire import rendezvous_pb2 as wire
from tests.unit.membership.story import Story


def numbered() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"secret {number}"


def test_each_generation_has_one_of_its_own() -> None:
    """Also under the next leader, who gives the standing one's to those who come back."""
    story, secrets = Story(), numbered()
    story.membership = Membership(lambda: next(secrets))
    assert story.begin("a", "b", "c").secret == "secret 1"
    story.cut("b")
    story.after(1.0)
    assert (story.number, story.generation.secret) == (2, "secret 2")
    record = story.membership.record
    successor = Membership(lambda: next(secrets))
    successor.step(NewLeader(record=record), story.now)
    assert successor.generation is not None
    assert successor.generation.secret == "secret 2"


def test_it_is_told_and_never_shown() -> None:
    story = Story()
    generation = story.begin("a", "b")
    told = generation_to_wire(generation)
    assert generation_from_wire(told).secret == "a secret"
    assert Generation.read(Fields(generation.to_dict(), "it")).secret == "a secret"
    assert "a secret" not in repr(generation) + repr(story.membership.record)


def test_a_service_that_gives_none_is_understood() -> None:
    story = Story()
    told = generation_to_wire(story.begin("a", "b"))
    told.ClearField("secret")
    older = wire.GenerationBegan.FromString(told.SerializeToString())
    assert generation_from_wire(older).secret == ""
