"""What a job's objects say of it, and what is sent for a wish."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.deploy.jobs import handle, make_job
from trainer.deploy import Request, render
from trainer.deploy.change import Patch, adopted, draining, scaling, submission
from trainer.deploy.coordinator import Verdict, judge
from trainer.deploy.view import View, lines, look, troubles
from trainer.errors import JobError

READY = {"type": "Ready", "status": "True"}


def pod(name: str, *, ready: bool = True, deleted: bool = False, **status: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [READY] if ready else []
    return {
        "metadata": metadata,
        "spec": {"nodeName": "m"},
        "status": {"phase": "Running", "conditions": conditions, **status},
    }


def view_of(target: str = "job", *pods: dict[str, Any], **spec: Any) -> View:
    manifests = render(Request(job=make_job(), target=target, run_id="r1"))
    holder, top = handle(manifests), manifests[-1]
    holder["spec"].update(spec)
    return look("demo", holder, top, pods)


def ended(code: int, **more: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"state": {"terminated": {"exitCode": code, **more}}}]}


def waiting(reason: str, message: str = "", **last: Any) -> dict[str, Any]:
    status = {"state": {"waiting": {"reason": reason, "message": message}}, "restartCount": 2}
    if last:
        status["lastState"] = {"terminated": last}
    return {"phase": "Pending", "containerStatuses": [status]}


@pytest.mark.parametrize(
    ("pods", "state"),
    [
        ([], "starting"),
        ([pod("a")], "starting"),
        ([pod("a"), pod("b")], "running"),
        ([pod("a"), pod("b", ready=False)], "starting"),
        ([pod("a"), pod("b", deleted=True)], "starting"),
    ],
)
@pytest.mark.parametrize("target", ["job", "spot", "jobset"])
def test_a_job_runs_when_its_minimum_is_in_a_generation(target, pods, state):
    view = view_of(target, *pods)
    assert (view.state, view.target, view.wanted) == (state, target, 4)
    assert (view.minimum, view.maximum, view.run_id) == (2, 4, "r1")


def test_the_handles_conditions_say_how_it_ended():
    manifests = render(Request(job=make_job(), run_id="r1"))
    for kind, state in (
        ("Complete", "completed"),
        ("Completed", "completed"),
        ("Failed", "failed"),
    ):
        condition = {"type": kind, "status": "True", "reason": "Why", "message": "because"}
        top = {**manifests[-1], "status": {"conditions": [condition]}}
        view = look("demo", top, top, [])
        assert (view.state, view.reason, view.over) == (state, "Why: because", True)
    view = look("demo", None, None, [])
    assert (view.state, view.over) == ("missing", True)
    assert lines(view) == ["demo  missing: no such job here"]


def test_a_suspended_job_says_what_it_waits_for():
    assert view_of("job", suspend=True).state == "suspended"
    assert view_of("spot", replicas=0).state == "suspended"
    manifests = render(Request(job=make_job({"queue": "team-a"}), run_id="r1"))
    manifests[-1]["spec"]["suspend"] = True
    assert look("demo", manifests[-1], manifests[-1], []).reason == "waits in the queue team-a"


@pytest.mark.parametrize(
    ("one", "trouble"),
    [
        (pod("a", **ended(75)), "exit code 75: left with notice"),
        (pod("a", **ended(2)), "exit code 2: wrong job or usage"),
        (pod("a", **ended(137, reason="OOMKilled")), "exit code 137: out of memory"),
        (pod("a", **ended(9)), "exit code 9"),
        (pod("a", **waiting("ContainerCreating")), ""),
        (
            pod("a", **waiting("ImagePullBackOff", "no image")),
            "ImagePullBackOff: no image",
        ),
        (
            pod("a", **waiting("CrashLoopBackOff", exitCode=1)),
            "CrashLoopBackOff; last exit code 1: failed",
        ),
        (
            pod("a", conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "Spot"}]),
            "disrupted (Spot)",
        ),
    ],
)  # fmt: skip
def test_what_ails_a_pod(one, trouble):
    assert view_of("job", one).pods[0].trouble == trouble


def test_troubles_are_told_once_for_all_pods_that_have_them():
    same = [pod(name, ready=False, **waiting("ImagePullBackOff")) for name in "abc"]
    assert troubles(view_of("job", *same)) == ["a and 2 more: ImagePullBackOff"]
    assert troubles(view_of("job", pod("a"))) == []


def test_scaling_patches():
    spec = {"suspend": False, "parallelism": 3, "completions": 3, "maxFailedIndexes": 1}
    assert scaling(view_of("job"), 3) == Patch("Job", "demo", {"spec": spec})
    assert scaling(view_of("spot"), 3) == Patch(
        "Deployment", "demo-agents", {"spec": {"replicas": 3}}, "scale"
    )
    for wrong in (0, 1, 5):
        with pytest.raises(JobError, match="runs on 2 to 4 nodes"):
            scaling(view_of("job"), wrong)
    with pytest.raises(JobError, match="can't be resized"):
        scaling(view_of("jobset"), 3)
    with pytest.raises(JobError, match="there is no job"):
        scaling(look("demo", None, None, []), 3)


def test_draining_patches():
    assert draining(view_of("job")) == Patch("Job", "demo", {"spec": {"suspend": True}})
    assert draining(view_of("jobset")).kind == "JobSet"
    assert draining(view_of("spot")).subresource == "scale"


def test_whether_a_job_may_be_submitted():
    running = view_of("job")
    nothing = look("demo", None, None, [])
    assert submission(nothing, None, "new", replace=False).run_id == "new"
    assert submission(nothing, "mine", "new", replace=False).run_id == "mine"
    assert submission(running, None, "new", replace=False).run_id == "r1"
    assert submission(running, "r1", "new", replace=False).run_id == "r1"
    with pytest.raises(JobError, match="as run r1, not mine"):
        submission(running, "mine", "new", replace=False)
    replaced = submission(running, None, "new", replace=True)
    assert (replaced.run_id, replaced.remove_first) == ("new", True)


def test_what_is_adopted_keeps_its_own_metadata():
    handle_object = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "demo", "uid": "u"},
    }  # fmt: skip
    made = adopted({"kind": "Service", "metadata": {"name": "s"}}, handle_object)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "demo", "uid": "u"}
    assert made == {"kind": "Service", "metadata": {"name": "s", "ownerReferences": [owner]}}


@pytest.mark.parametrize(
    ("phase", "ended_by", "age", "verdict"),
    [
        ("forming", "", 5.0, None),
        ("running", "", 5.0, None),
        ("waiting", "", None, None),
        ("unknown", "", 5.0, None),
        ("completed", "workers", 5.0, Verdict(0, "why")),
        ("completed", "workers", 50.0, Verdict(0, "why")),
        ("failed", "workers", 5.0, Verdict(1, "why")),
        ("stopped", "workers", 5.0, Verdict(0, "why")),
        ("stopped", "operator", 5.0, Verdict(75, "why")),
        ("stopped", "nodes", 5.0, None),
        ("stopped", "nodes", 50.0, Verdict(1, "the deadline of 10 s is over")),
        ("running", "", 50.0, Verdict(1, "the deadline of 10 s is over")),
        ("unknown", "", 50.0, Verdict(1, "the deadline of 10 s is over")),
        ("running", "", None, None),
    ],
)
def test_when_a_coordinator_ends_and_how(phase, ended_by, age, verdict):
    assert judge(phase, "why", ended_by=ended_by, age=age, deadline=10.0) == verdict
