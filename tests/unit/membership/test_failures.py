"""Workers that fail, and what the job can afford."""

from __future__ import annotations

import signal

from rendezvous.membership import EndJob, Left, Refuse, WorkerFailed
from tests.unit.membership.story import Story


def test_a_failed_worker_begins_a_generation_of_the_same_nodes_at_once():
    story = Story()
    story.begin("a", "b", "c")
    story.fail("b", rank=3, signal=signal.SIGKILL, step=12)
    assert story.published() == ["abc"]
    assert story.generation.reason == "worker 3 on node b was killed by SIGKILL at step 12"
    assert story.generation.restarts == 0, "a kill from outside is not held against the job"


def test_failures_of_the_jobs_own_are_counted():
    story = Story(max_restarts=2, node_failures=10)
    story.begin("a", "b", "c")
    for step, node in enumerate("abc"):
        story.run()
        story.fail(node, rank=step, step=step, cause="ValueError: odd")
    end = story.only(EndJob)
    assert end.status == "failed"
    assert end.reason == (
        "worker 2 on node c ended with exit code 1 at step 2: ValueError: odd; "
        "that is failure 3 of the job's own making, max_restarts is 2"
    )


def test_kills_in_ever_new_places_never_end_the_job():
    story = Story(max_restarts=0)
    story.begin("a", "b", "c")
    for step in range(30):
        story.run()
        story.fail("abc"[step % 3], rank=2 * (step % 3), signal=signal.SIGKILL, step=step)
    assert story.number == 31


def test_a_kill_that_comes_back_to_the_same_rank_is_counted():
    story = Story(max_restarts=1)
    story.begin("a", "b", "c")
    for step in range(3):
        story.run()
        story.fail("b", rank=2, signal=signal.SIGKILL, step=step)
    assert story.only(EndJob).status == "failed"


def test_one_failure_that_many_nodes_report_is_one():
    story = Story(max_restarts=1)
    story.begin("a", "b", "c")
    late = WorkerFailed(generation=1, rank=2, exit_code=1, **story.who("b"))
    story.fail("a", rank=0)
    assert story.number == 2
    assert story.act(late) == []
    assert story.generation.restarts == 1


def test_a_worker_that_dies_of_a_lost_node_is_not_to_blame():
    story = Story(max_restarts=0)
    story.begin("a", "b", "c")
    story.cut("c")
    story.fail("b", rank=2, cause="connection closed by peer")
    assert story.published() == [], "node c may be lost: that would explain it"
    story.after(0.3)
    assert story.published() == ["ab"]
    assert story.generation.restarts == 0
    assert story.generation.reason.startswith("node c was lost")


def test_members_that_leave_by_themselves_wait_for_the_culprit():
    story = Story(max_restarts=0)
    story.begin("a", "b", "c")
    cause = "Gloo: connection reset"
    story.act(Left(generation=1, version=5, cause=cause, **story.who("a")))
    story.cut("c")
    story.after(0.3)
    assert story.published() == ["ab"]
    assert story.generation.reason.startswith("node c was lost")


def test_members_that_leave_by_themselves_are_taken_into_the_next_generation():
    story = Story(max_restarts=0)
    story.begin("a", "b", "c")
    cause = "Gloo: connection reset"
    story.act(Left(generation=1, version=5, cause=cause, **story.who("b")))
    story.after(0.9)
    assert story.published() == []
    story.after(0.2)
    assert story.published() == ["abc"]
    assert story.generation.reason == "node b left generation 1 by itself: Gloo: connection reset"


def test_when_all_have_left_nothing_is_waited_for():
    story = Story()
    story.begin("a", "b", "c")
    story.leave_boundary("a", "b", "c")
    assert story.published() == ["abc"]


def test_a_node_that_keeps_failing_is_set_aside():
    story = Story(node_failures=3, max_restarts=10)
    story.begin("a", "b", "c")
    for step in range(3):
        story.run()
        story.fail("b", rank=2, signal=signal.SIGBUS, step=step)
    assert story.members == "ac"
    refusal = story.only(Refuse)
    assert refusal.reason == "node b was set aside: its workers failed 3 times"
    assert refusal.reason in story.generation.reason
    assert not refusal.retryable
    story.join("b", incarnation=2)
    assert story.only(Refuse).reason == refusal.reason


def test_a_node_is_not_set_aside_if_the_job_needs_it():
    story = Story(node_failures=2, max_restarts=10)
    story.begin("a", "b")
    for step in range(5):
        story.run()
        story.fail("b", rank=2, step=step)
    assert story.members == "ab"


def test_a_step_that_fails_on_every_node_fails_the_job_with_the_evidence():
    story = Story(max_restarts=10)
    story.begin("a", "b", "c")
    for node, rank in (("a", 0), ("b", 2), ("c", 4)):
        story.run()
        story.fail(node, rank=rank, step=7, cause="loss is nan")
    end = story.only(EndJob)
    assert end.status == "failed"
    assert end.reason.startswith("step 7 has failed 3 times: worker 0 on node a")
    assert "worker 4 on node c ended with exit code 1 at step 7: loss is nan" in end.reason


def test_a_step_that_fails_on_one_node_only_is_that_nodes_fault():
    story = Story(max_restarts=10, node_failures=3)
    story.begin("a", "b", "c")
    for _ in range(3):
        story.run()
        story.fail("b", rank=2, step=7)
    assert story.members == "ac"


def test_kills_at_one_step_are_no_evidence_against_the_step():
    story = Story(max_restarts=10)
    story.begin("a", "b", "c")
    for node in "abc":
        story.run()
        story.fail(node, signal=signal.SIGKILL, step=30)
    assert story.members == "abc"
    assert story.number == 4


def test_lost_and_drained_nodes_cost_nothing():
    story = Story(max_restarts=0)
    story.begin("a", "b", "c")
    for life in range(2, 12):
        story.run()
        story.cut("c")
        story.after(0.3)
        story.join("c", incarnation=life)
        story.after(31.0)
        story.run()
        story.after(31.0)
        story.leave_boundary("a", "b")
        assert story.members == "abc"
    assert story.generation.restarts == 0


ALIKE = {"error": "ValueError: no head #", "cause": "ValueError: no head 3"}


def test_an_error_that_every_rank_has_before_the_first_step_is_not_tried_again():
    story = Story(max_restarts=10)
    story.begin("a", "b")
    story.fail("a", rank=0, whole=True, **ALIKE)
    assert story.effects == [], "node b may have another error, or none"
    story.fail("b", rank=2, whole=True, **ALIKE)
    end = story.only(EndJob)
    assert end.status == "failed"
    assert end.reason == (
        "every rank failed before the first step: "
        "worker 0 on node a ended with exit code 1: ValueError: no head 3"
    )


def test_an_error_that_not_every_rank_has_is_tried_again_once():
    for others in ("another error", "left", "silent", "not whole"):
        story = Story(max_restarts=10)
        story.begin("a", "b")
        for last in (False, True):
            story.fail("a", rank=0, whole=True, **ALIKE)
            if others == "another error":
                story.fail("b", rank=2, whole=True, error="KeyError", cause="KeyError")
            elif others == "left":
                story.leave_boundary("b", version=0)
            elif others == "not whole":
                story.fail("b", rank=2, **ALIKE)
            else:
                assert story.effects == []
                story.after(3.1)
                assert story.published() == ["ab"], "what node b has done is not known"
                break
            if last:
                assert story.only(EndJob).reason.endswith(
                    "; the start before failed of the same error, before the first step"
                )
            else:
                assert story.published() == ["ab"], others
                story.run()


def test_a_newcomers_error_does_not_end_a_job_that_has_done_steps():
    story = Story(max_restarts=10, node_failures=9)
    story.begin("a", "b")
    for _ in range(3):
        story.fail("b", rank=2, whole=True, **ALIKE)
        socket, who = story.socket("a"), story.who("a")
        story.act(
            Left(generation=story.number, version=40, stepped=True, store_endpoint=socket, **who)
        )
        assert story.published() == ["ab"]
        story.run()


def test_an_error_that_may_pass_waits_for_nobody_and_is_tried_until_the_budget_is_spent():
    story = Story(max_restarts=2)
    story.begin("a", "b")
    for _ in range(2):
        story.fail("a", rank=0, cause="ConnectionError: no")
        assert story.published() == ["ab"]
        story.run()
    story.fail("a", rank=0, cause="ConnectionError: no")
    assert "max_restarts is 2" in story.only(EndJob).reason


def test_a_lost_node_explains_an_error_before_the_first_step():
    story = Story(max_restarts=0)
    story.begin("a", "b", "c")
    story.cut("c")
    story.fail("a", rank=0, whole=True, **ALIKE)
    story.after(0.3)
    assert story.published() == ["ab"]
    assert story.generation.restarts == 0
