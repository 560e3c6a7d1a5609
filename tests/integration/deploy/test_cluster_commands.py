"""The subcommands against a stand-in API server, through the official client and real HTTP."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.deploy.api_server import ApiServer, Fault, api_server
from trainer.deploy import Request, actions, cli
from trainer.deploy.api import Cluster
from trainer.errors import (
    ClusterConflict,
    ClusterError,
    ClusterRefused,
    ClusterUnreachable,
    JobError,
)
from trainer.job import load

pytest.importorskip("kubernetes")

JOB = """\
name: demo
model: {preset: debug}
elastic: {nodes: "2:4"}
kubernetes:
  volumes: [{name: runs, mount: /var/lib/remesh, claim: remesh-runs}]
"""


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        yield running


@pytest.fixture
def job(tmp_path: Path, server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.setattr("trainer.deploy.actions.POLL_SECONDS", 0.05)
    path = tmp_path / "demo.yaml"
    path.write_text(JOB)
    return path


def run(*argv: object) -> int:
    return cli.main([str(word) for word in argv])


def connect(*, timeout: float = 5.0, patience: float = 5.0) -> Cluster:
    cluster = Cluster.connect(timeout=timeout)
    cluster._patience = patience
    return cluster


def finish(server: ApiServer, kind: str, name: str, condition: str, reason: str = "") -> None:
    entry = {"type": condition, "status": "True", "reason": reason}
    server.get(kind, name)["status"] = {"conditions": [entry]}


# submit


@pytest.mark.parametrize(
    ("target", "kinds"),
    [
        ("job", {"ConfigMap", "Service", "PodDisruptionBudget", "Job"}),
        ("jobset", {"ConfigMap", "PodDisruptionBudget", "JobSet"}),
        ("spot", {"ConfigMap", "Service", "PodDisruptionBudget", "Deployment", "ServiceAccount",
                  "Role", "RoleBinding", "Job"}),
    ],
)  # fmt: skip
def test_submit_applies_everything_and_the_handle_owns_the_rest(server, job, capsys, target, kinds):
    assert run("submit", job, "--target", target, "--no-follow") == 0
    assert {kind for kind, _ in server.objects} == kinds
    handle = server.get("JobSet" if target == "jobset" else "Job", "demo")
    for one in server.objects.values():
        assert one["metadata"]["namespace"] == "team"
        if one is not handle:
            assert [owner["uid"] for owner in one["metadata"]["ownerReferences"]] == [
                handle["metadata"]["uid"]
            ]
    printed = capsys.readouterr().out
    for kind in kinds:
        assert f"{kind}/demo" in printed


def test_submit_follows_the_start_and_says_what_keeps_pods_away(server, job, capsys, monkeypatch):
    """1. Two pods can't be scheduled. 2. They run. 3. They are in a generation: submit is done."""
    unscheduled = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 machines have 8 accelerators",
    }  # fmt: skip
    stages = itertools.chain(["pending", "starting"], itertools.repeat("ready"))

    def advance(seconds: float) -> None:
        stage = next(stages)
        for index in range(2):
            name = f"demo-{index}-abcde"
            if stage == "pending":
                server.add_pod(name, "demo", ready=False, phase="Pending", conditions=[unscheduled])
            else:
                server.add_pod(name, "demo", ready=stage == "ready")

    original = actions.follow
    monkeypatch.setattr(
        actions, "follow", lambda *args, **kwargs: original(*args, **kwargs, sleep=advance)
    )
    assert run("submit", job) == 0
    printed = capsys.readouterr().out
    assert "demo starting: 0 of at least 2 nodes ready" in printed
    assert "demo-0-abcde and 1 more: Unschedulable: 0/3 machines have 8 accelerators" in printed
    assert "demo running" in printed
    assert "remesh logs demo --follow" in printed


def test_a_start_that_takes_too_long_is_watched_no_longer(server, job, capsys):
    assert run("submit", job, "--wait", "0.5") == 0
    printed = capsys.readouterr().out
    assert "demo has not begun yet; `remesh status demo --cluster` shows how it goes on" in printed


def test_a_start_that_fails_is_an_error(server, job, capsys, monkeypatch):
    original = actions.follow

    def fail(seconds: float) -> None:
        finish(server, "Job", "demo", "Failed", "PodFailurePolicy")

    monkeypatch.setattr(
        actions, "follow", lambda *args, **kwargs: original(*args, **kwargs, sleep=fail)
    )
    assert run("submit", job) == 1
    assert "demo failed: PodFailurePolicy" in capsys.readouterr().out


def test_a_second_submit_keeps_the_run_and_updates_what_may_change(server, job, capsys):
    run("submit", job, "--no-follow")
    first = server.get("Job", "demo")["metadata"]["annotations"]["remesh.dev/run-id"]
    run("submit", job, "--no-follow", "--set", "kubernetes.ttl_after_finished=60")
    again = server.get("Job", "demo")
    assert again["metadata"]["annotations"]["remesh.dev/run-id"] == first
    assert again["spec"]["ttlSecondsAfterFinished"] == 60
    assert "Job/demo updated" in capsys.readouterr().out


def test_what_may_not_change_is_refused_by_the_server_and_said(server, job, capsys):
    run("submit", job, "--no-follow")
    assert run("submit", job, "--no-follow", "--set", "kubernetes.image=other:1") == 1
    assert "spec.template: can't be changed" in capsys.readouterr().err


def test_a_job_that_is_over_stays_until_it_is_deleted_or_replaced(server, job, capsys):
    run("submit", job, "--no-follow", "--run-id", "first")
    finish(server, "Job", "demo", "Complete", "SuccessPolicy")
    with pytest.raises(JobError, match="has completed as run first"):
        run("submit", job, "--no-follow")
    assert run("submit", job, "--no-follow", "--replace", "--run-id", "second") == 0
    assert server.get("Job", "demo")["metadata"]["annotations"]["remesh.dev/run-id"] == "second"
    assert "status" not in server.get("Job", "demo")


def test_another_run_of_a_running_job_is_refused(server, job):
    run("submit", job, "--no-follow", "--run-id", "first")
    with pytest.raises(JobError, match="as run first, not second"):
        run("submit", job, "--no-follow", "--run-id", "second")


def test_a_dry_run_changes_nothing(server, job, capsys):
    assert run("submit", job, "--dry-run") == 0
    assert server.objects == {}
    assert "Job/demo would be applied" in capsys.readouterr().out
    assert all("dryRun=All" in line for line in server.requests if line.startswith("PATCH"))


def test_a_broken_job_never_reaches_the_server(server, job):
    with pytest.raises(JobError, match="mount a claim"):
        run("submit", job, "--set", "kubernetes.volumes=[]")
    assert [line for line in server.requests if not line.startswith("GET")] == []


# refused, conflicting, slow


def test_no_right_to_do_it(server, job, capsys):
    server.faults.append(Fault("PATCH", 403, 'jobs is forbidden: User "u" cannot patch'))
    assert run("submit", job, "--no-follow") == 1
    printed = capsys.readouterr().err
    assert 'jobs is forbidden: User "u" cannot patch' in printed
    assert "docs/kubernetes.md" in printed


def test_an_autoscaler_that_holds_the_number_of_nodes_is_not_overruled(server, job, capsys):
    run("submit", job, "--target", "spot", "--no-follow")
    server.get("Deployment", "demo-agents")["spec"]["replicas"] = 3
    server.managers["Deployment", "demo-agents"]["replicas"] = "autoscaler"
    assert run("submit", job, "--target", "spot", "--no-follow") == 1
    assert 'conflict with "autoscaler": .spec.replicas' in capsys.readouterr().err
    assert server.get("Deployment", "demo-agents")["spec"]["replicas"] == 3
    assert run("submit", job, "--target", "spot", "--no-follow", "--force-conflicts") == 0
    assert server.get("Deployment", "demo-agents")["spec"]["replicas"] == 4


def test_a_busy_server_is_asked_again_when_it_says(server, job):
    server.faults += [
        Fault("/jobs/", 503, times=2),
        Fault("/configmaps/", 429, headers={"Retry-After": "1"}),
        Fault("/services/", 500),
    ]
    assert run("submit", job, "--no-follow") == 0
    assert ("Job", "demo") in server.objects


def test_a_server_that_stays_busy_is_given_up_with_its_reason(server, job):
    server.faults.append(Fault("/jobs/", 503, "etcdserver: leader changed", times=1000))
    with pytest.raises(ClusterUnreachable, match="leader changed"):
        actions.see(connect(patience=1.0), "demo")


def test_a_slow_answer_is_waited_for_and_then_asked_for_again(server, job):
    server.faults.append(Fault("/jobs/", delay=3.0))
    cluster = connect(timeout=0.5)
    assert actions.see(cluster, "demo").state == "missing"
    assert sum("/jobs/" in line for line in server.requests) == 2


def test_no_server_at_all(server, job, tmp_path, monkeypatch):
    path = server.kubeconfig(tmp_path / "other")
    path.write_text(path.read_text().replace(server.url, "http://127.0.0.1:1"))
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(ClusterUnreachable, match="no answer"):
        actions.see(connect(patience=0.5), "demo")


def test_a_wrong_token_is_no_reason_to_wait(server, job, tmp_path, monkeypatch):
    path = server.kubeconfig(tmp_path / "other")
    path.write_text(path.read_text().replace("a-token-of-the-tests", "another"))
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(ClusterRefused, match="does not know you"):
        actions.see(connect(), "demo")


def test_no_kubeconfig(job, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match="no cluster to talk to"):
        connect()


# scale, drain, delete, status, logs


def test_scaling_a_job_moves_all_three_numbers(server, job):
    run("submit", job, "--no-follow")
    for nodes in (2, 4, 3):
        assert run("scale", job, "--nodes", nodes) == 0
        spec = server.get("Job", "demo")["spec"]
        assert (spec["parallelism"], spec["completions"]) == (nodes, nodes)
        assert spec["maxFailedIndexes"] == nodes - 2


def test_scaling_spot_agents_goes_through_the_scale_subresource(server, job):
    run("submit", job, "--target", "spot", "--no-follow")
    assert run("scale", "demo", "--nodes", "3") == 0
    assert server.get("Deployment", "demo-agents")["spec"]["replicas"] == 3
    assert "deployments/demo-agents/scale" in server.requests[-1]


def test_a_job_is_scaled_to_some_node(server, job, capsys):
    run("submit", job, "--no-follow")
    with pytest.raises(SystemExit, match="2"):
        run("scale", "demo", "--nodes", 0)
    assert "a whole number from 1" in capsys.readouterr().err


@pytest.mark.parametrize("nodes", [1, 5])
def test_a_job_is_not_scaled_beyond_its_bounds(server, job, nodes):
    run("submit", job, "--no-follow")
    with pytest.raises(JobError, match="runs on 2 to 4 nodes"):
        run("scale", "demo", "--nodes", nodes)


def test_a_conflict_while_scaling_is_told(server, job, capsys):
    run("submit", job, "--no-follow")
    server.faults.append(Fault("PATCH", 409, "the object has been modified"))
    assert run("scale", "demo", "--nodes", "3") == 1
    assert "the object has been modified" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["job", "spot", "jobset"])
def test_a_drained_job_comes_back_by_scaling(server, job, capsys, target):
    run("submit", job, "--target", target, "--no-follow")
    assert run("drain", "demo") == 0
    assert actions.see(connect(), "demo").state == "suspended"
    assert run("scale", "demo", "--nodes", "4") == 0
    assert actions.see(connect(), "demo").state == "starting"


def test_one_node_is_drained_by_eviction_within_the_budget(server, job, capsys):
    run("submit", job, "--no-follow")
    for index in range(2):
        server.add_pod(f"demo-{index}-abcde", "demo")
    server.allowed_evictions = 1
    assert run("drain", "demo", "--node", "demo-0-abcde") == 0
    assert server.evicted == ["demo-0-abcde"]
    assert run("drain", "demo", "--node", "demo-1-abcde") == 1
    assert "disruption budget" in capsys.readouterr().err
    with pytest.raises(JobError, match="has no node demo-9; it has demo-1-abcde"):
        run("drain", "demo", "--node", "demo-9")


@pytest.mark.parametrize("target", ["job", "spot", "jobset"])
def test_delete_leaves_nothing(server, job, target):
    run("submit", job, "--target", target, "--no-follow")
    assert run("delete", job) == 0
    assert server.objects == {}
    with pytest.raises(JobError, match="there is no job demo"):
        run("delete", "demo")


def test_status_shows_every_node_and_how_it_ended(server, job, capsys):
    run("submit", job, "--no-follow", "--run-id", "r1")
    server.add_pod("demo-0-aaaaa", "demo")
    ended = {"exitCode": 137, "reason": "OOMKilled"}
    server.add_pod(
        "demo-1-bbbbb", "demo", ready=False, phase="Failed",
        containerStatuses=[{"restartCount": 0, "state": {"terminated": ended}}],
    )  # fmt: skip
    capsys.readouterr()
    assert run("status", "demo") == 0
    printed = capsys.readouterr().out
    assert "demo  starting: 1 of at least 2 nodes ready" in printed
    assert "run r1  target job  nodes 1 ready of 4 wanted (from 2 to 4)" in printed
    assert "exit code 137: out of memory" in printed
    assert run("status", "demo", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["ready"]) == ("starting", 1)
    assert run("status", "nothing") == 1


def test_logs_carry_their_pods_name_where_there_are_several(server, job, capsys):
    run("submit", job, "--no-follow")
    server.add_pod("demo-0-aaaaa", "demo")
    server.logs["demo-0-aaaaa"] = "one\ntwo\n"
    capsys.readouterr()
    assert run("logs", "demo", "--tail", "5") == 0
    assert capsys.readouterr().out == "one\ntwo\n"
    assert "tailLines=5" in server.requests[-1]
    server.add_pod("demo-1-bbbbb", "demo")
    server.logs["demo-1-bbbbb"] = "three"
    assert run("logs", "demo", "--follow") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == ["[demo-0-aaaaa] one", "[demo-0-aaaaa] two", "[demo-1-bbbbb] three"]
    with pytest.raises(JobError, match="no node demo-9"):
        run("logs", "demo", "--node", "demo-9")


def test_submitting_what_a_conflict_stops_leaves_the_rest_to_try_again(server, job):
    server.faults.append(Fault("PATCH", 409, "being deleted"))
    request = Request(job=load(job))
    said: list[str] = []
    with pytest.raises(ClusterConflict, match="being deleted"):
        actions.submit(connect(), request, fresh="r1", say=said.append)
    actions.submit(connect(), request, fresh="r1", say=said.append)
    assert ("Job", "demo") in server.objects
