"""The store went back in time: what live members say is newer than the record wins."""

from __future__ import annotations

import pytest

from rendezvous.bounds import MAX_CLAIM
from rendezvous.membership import (
    EndJob,
    Finished,
    KeepSpare,
    Publish,
    Record,
    Refuse,
    Running,
    Warn,
    WorkerFailed,
)
from tests.unit.membership.story import Story

GRACE = 5.0


def _restored(story: Story, record: Record | None, number: int, *nodes: str) -> None:
    """A new leader finds `record`; the nodes come back to it from generation `number`."""
    lives = dict(story.beating)
    story.beating.clear()
    story.record = record
    story.new_leader()
    for node in nodes:
        story.join(node, incarnation=lives.get(node, 1), generation=number)


def _at(story: Story, node: str, number: int) -> dict[str, object]:
    return {"generation": number, **story.who(node)}


def _three_generations(*nodes: str, **changes: object) -> tuple[Story, Record]:
    """A job in generation 3, and its record as it was in generation 1."""
    story = Story(**changes)
    story.begin(*nodes)
    record = story.record
    assert record is not None
    for _ in range(2):
        story.fail(nodes[0], rank=0, signal=9, step=1)
        story.leave_boundary(*nodes[1:])
        story.run()
    assert story.number == 3
    return story, record


def test_the_next_generation_begins_above_what_live_members_have_heard_of():
    story, record = _three_generations("a", "b")
    _restored(story, record, 3, "a", "b")
    story.after(GRACE + 0.1)
    assert story.published() == ["ab"]
    assert story.number == 4
    assert story.generation.reason == (
        "the store went back from generation 3, which its members are in, to generation 1"
    )


def test_the_log_says_from_where_to_where_the_store_went_back():
    story, record = _three_generations("a", "b")
    _restored(story, record, 3, "a")
    assert "from generation 3" in story.only(Warn).reason
    assert "to generation 1" in story.only(Warn).reason
    story.join("b", generation=3)
    assert story.saw(Warn) == []


def test_nobody_is_disturbed_before_all_had_the_time_to_come_back():
    story, record = _three_generations("a", "b", "c")
    _restored(story, record, 3, "a", "b")
    told = len(story.told)
    story.after(GRACE - 0.2)
    assert not [e for e in story.told[told:] if isinstance(e, Publish | KeepSpare | EndJob)]
    story.join("c", generation=3)
    assert not story.saw(KeepSpare)
    story.after(0.5)
    assert story.published() == ["abc"]


def test_a_full_house_need_not_be_waited_for():
    story, record = _three_generations("a", "b", max_nodes=2)
    _restored(story, record, 3, "a", "b")
    assert story.published() == ["ab"]


def test_who_finished_meanwhile_has_completed_the_job():
    story, record = _three_generations("a", "b")
    _restored(story, record, 3, "a", "b")
    for node in "ab":
        story.act(Finished(status="completed", **_at(story, node, 3)))
    assert story.saw(EndJob) == []
    story.after(GRACE + 0.1)
    assert story.only(EndJob).status == "completed"
    assert story.record is not None
    assert story.record.generation is not None
    assert story.record.generation.number == 3


def test_what_all_ranks_have_agreed_on_needs_nobody_else():
    story, record = _three_generations("a", "b")
    _restored(story, record, 3, "a")
    story.act(Finished(status="completed", whole=True, **_at(story, "a", 3)))
    story.join("b", generation=3)
    story.after(1.1)
    assert story.only(EndJob).status == "completed"


def test_who_has_finished_is_not_begun_anew_while_the_others_may_finish_too():
    story, record = _three_generations("a", "b")
    _restored(story, record, 3, "a", "b")
    story.act(Finished(status="completed", **_at(story, "a", 3)))
    story.after(GRACE + 5.0)
    assert story.published() == []
    story.act(Finished(status="completed", **_at(story, "b", 3)))
    assert story.only(EndJob).status == "completed"


def test_a_worker_that_fails_is_replaced():
    story, record = _three_generations("a", "b", max_restarts=5)
    _restored(story, record, 3, "a", "b")
    story.act(
        WorkerFailed(
            rank=0, signal=9, step=4, store_endpoint=story.socket("a"), **_at(story, "a", 3)
        )
    )
    story.after(GRACE + 0.1)
    assert story.number == 4


def test_a_joiner_gets_in():
    story, record = _three_generations("a", "b")
    _restored(story, record, 3, "a", "b")
    story.join("c")
    assert story.only(KeepSpare).generation == 3
    story.after(GRACE + 0.1)
    assert story.published() == ["abc"]


def test_who_heard_of_less_is_out_and_who_comes_with_more_raises_the_number():
    story, record = _three_generations("a", "b", "c")
    _restored(story, record, 2, "a")
    story.join("b", generation=3)
    assert [(e.node, e.generation) for e in story.saw(KeepSpare)] == [("a", 3)]
    story.join("c", generation=2)
    assert [(e.node, e.generation) for e in story.saw(KeepSpare)] == [("c", 3)]
    story.act(Running(**_at(story, "a", 2)))
    story.after(GRACE + 0.1)
    assert (story.published(), story.number) == (["abc"], 4)


def test_who_does_not_come_back_is_not_in_the_next_one():
    story, record = _three_generations("a", "b", "c")
    _restored(story, record, 3, "a", "c")
    story.after(GRACE + 0.1)
    assert story.published() == ["ac"]


def test_too_few_are_waited_for_and_their_workers_stop():
    story, record = _three_generations("a", "b")
    _restored(story, record, 3, "a")
    story.after(GRACE + 0.1)
    assert story.only(KeepSpare).generation == 3
    story.join("b", incarnation=2)
    assert (story.published(), story.number) == (["ab"], 4)


def test_a_job_the_store_knows_nothing_of_goes_on():
    story, _ = _three_generations("a", "b")
    _restored(story, None, 3, "a", "b")
    assert "knows of none" in "".join(e.reason for e in story.told if isinstance(e, Warn))
    for node in "ab":
        story.act(Finished(status="completed", **_at(story, node, 3)))
    story.after(GRACE + 0.1)
    assert story.only(EndJob).status == "completed"


@pytest.mark.parametrize("status", ["stopped", "failed"])
def test_nobody_is_sent_home_by_an_older_end(status: str):
    story = Story()
    story.begin("a", "b")
    story.finish("a", status=status)
    story.finish("b", status=status)
    record = story.record
    assert record is not None
    assert record.ended is not None
    told = len(story.told)
    _restored(story, record, 2, "a", "b")
    assert not [e for e in story.told[told:] if isinstance(e, EndJob | Refuse)]
    (warning,) = (e for e in story.told if isinstance(e, Warn))
    assert f"generation 1, in which the job has {status}" in warning.reason
    story.after(GRACE + 0.1)
    assert (story.published(), story.number) == (["ab"], 3)
    assert story.record is not None
    assert story.record.ended is None


def test_a_completed_job_stays_completed():
    story = Story()
    story.begin("a", "b")
    story.finish("a", "b")
    _restored(story, story.record, 2, "a")
    assert story.only(EndJob).status == "completed"


def test_a_job_that_waited_then_disturbs_nobody_who_runs():
    story = Story()
    story.begin("a", "b", "c")
    story.cut("b", "c")
    story.after(1.1)
    assert story.record is not None
    assert not story.record.active
    _restored(story, story.record, 3, "a", "b", "c")
    assert story.published() == []
    story.after(GRACE + 0.1)
    assert (story.published(), story.number) == (["abc"], 4)


def test_who_was_set_aside_then_and_runs_now_is_taken_in():
    story = Story(node_failures=1, min_nodes=1)
    story.begin("a", "b")
    story.fail("b", rank=2, step=3)
    story.leave_boundary("a")
    record = story.record
    assert record is not None
    assert "b" in record.set_aside
    story.beating["b"] = 1
    _restored(story, record, 7, "a", "b")
    assert story.saw(Refuse) == []
    story.after(GRACE + 0.1)
    assert (story.published(), story.number) == (["ab"], 8)


def test_another_spec_that_runs_now_wins():
    story, record = _three_generations("a", "b")
    story.spec = Story(max_nodes=6).spec
    _restored(story, record, 3, "a", "b")
    assert story.saw(Refuse) == []
    story.after(GRACE + 0.1)
    assert story.number == 4


def test_it_is_running_for_who_asks():
    story, record = _three_generations("a", "b")
    _restored(story, record, 3, "a", "b")
    view = story.membership.view(story.now)
    assert view.active
    assert "generation 3" in view.waiting


def test_an_earlier_start_of_the_job_overtakes_nothing():
    story = Story()
    story.begin("a", "b")
    _restored(story, story.record, 1, "a", "b")
    story.join("c", earlier=9)
    assert story.saw(Warn) == []
    assert story.number == 1


@pytest.mark.parametrize(("number", "believed"), [(MAX_CLAIM, True), (MAX_CLAIM + 1, False)])
def test_a_member_that_leaves_no_numbers_for_what_comes_is_not_believed(
    number: int, believed: bool
) -> None:
    story, record = _three_generations("a", "b")
    _restored(story, record, number, "a")
    assert bool(story.saw(Warn)) == believed
    story.join("b", generation=number)
    story.after(GRACE + 0.1)
    assert story.number == (number + 1 if believed else record.generation.number)
