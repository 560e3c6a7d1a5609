"""What a real API server refused, and what it would: each rule by the manifest that breaks it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.unit.deploy.jobs import RUNS, by_kind, handle, make_job
from trainer.deploy import Request, render, rules, schema

Path = tuple[str | int, ...]
SPEC: Path = ("spec",)
POD: Path = ("spec", "template", "spec")
AGENT: Path = (*POD, "containers", 0)
RULE: Path = ("spec", "podFailurePolicy", "rules", 0)


def rendered(target: str, kind: str, **kubernetes: Any) -> dict[str, Any]:
    manifests = render(Request(job=make_job(kubernetes), target=target, run_id="r1"))
    return by_kind(manifests, kind) if kind != "agents" else handle(manifests)


def changed(manifest: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """A copy with one place set, or removed for None."""
    copied = copy.deepcopy(manifest)
    at: Any = copied
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return copied


CODES = {"containerName": "agent", "operator": "In", "values": [2]}
MEASURED = [
    ((*POD, "restartPolicy"), "OnFailure", "restartPolicy: OnFailure is not one of Never"),
    (("spec", "podReplacementPolicy"), "TerminatingOrFailed", "must be Failed where there is"),
    (("spec", "completionMode"), "NonIndexed", "successPolicy: needs completionMode Indexed"),
    (("spec", "maxFailedIndexes"), 5, "5 is more than the 4 completions"),
]


@pytest.mark.parametrize(("path", "value", "complaint"), MEASURED)
def test_what_a_real_server_refused_is_refused_here(path, value, complaint):
    broken = changed(rendered("job", "Job"), path, value)
    assert complaint in "\n".join(rules.problems([broken]))
    assert schema.problems([broken], schema.newest_versions(1)) == []


def test_an_unknown_field_is_refused_by_the_strict_schema():
    broken = changed(rendered("job", "Job"), ("spec", "backofLimit"), 3)
    found = schema.problems([broken], schema.newest_versions(1))
    assert len(found) == 1
    assert "backofLimit" in found[0]


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("metadata", "name"), "A_b", "is no DNS"),
        (("metadata", "name"), "a" * 62, "would be longer than 63"),
        (("metadata", "labels"), {"a b": "c"}, "is no key of a label"),
        (("metadata", "labels"), {"a": "x" * 64}, "is no value of a label"),
        (("metadata", "annotations"), {"a": "x" * 300_000}, "more than 262144 bytes"),
        (("metadata", "namespace"), "A", "is no DNS label"),
        ((*SPEC, "completions"), None, "is required by completionMode Indexed"),
        ((*SPEC, "backoffLimitPerIndex"), None, "maxFailedIndexes: needs backoffLimitPerIndex"),
        ((*SPEC, "backoffLimitPerIndex"), -1, "must not be negative"),
        ((*SPEC, "completionMode"), "Sorted", "Sorted is unknown"),
        ((*SPEC, "podReplacementPolicy"), "Soon", "Soon is unknown"),
        ((*SPEC, "selector"), {"matchLabels": {"a": "b"}}, "is made by the server"),
        ((*SPEC, "successPolicy", "rules"), [], "1 to 20 are required"),
        ((*SPEC, "successPolicy", "rules"), [{}], "needs succeededCount"),
        ((*SPEC, "successPolicy", "rules"), [{"succeededCount": 9}], "not within 1"),
        ((*SPEC, "podFailurePolicy", "rules"), [{"action": "Ignore"}] * 21, "at most 20"),
        ((*RULE, "action"), "Panic", "Panic is unknown"),
        ((*RULE, "onPodConditions"), [{"type": "A"}], "exactly one of onExitCodes"),
        ((*RULE, "onExitCodes"), {**CODES, "values": [75, 2]}, "must be ordered"),
        ((*RULE, "onExitCodes"), {**CODES, "values": [2, 2]}, "must be ordered, each once"),
        ((*RULE, "onExitCodes"), {**CODES, "values": []}, "1 to 255"),
        ((*RULE, "onExitCodes"), {**CODES, "values": [0]}, "0 is no failure"),
        ((*RULE, "onExitCodes"), {**CODES, "operator": "Is"}, "operator: Is is unknown"),
        ((*RULE, "onExitCodes"), {**CODES, "containerName": "x"}, "no container 'x'"),
        ((*POD, "containers"), [], "at least one is required"),
        ((*POD, "terminationGracePeriodSeconds"), -1, "must not be negative"),
        ((*POD, "tolerations"), [{"operator": "Equal"}], "operator must be Exists"),
        ((*POD, "tolerations"), [{"operator": "Exists", "value": "a"}], "there is no value"),
        (
            (*POD, "tolerations"),
            [{"key": "a", "operator": "Exists", "tolerationSeconds": 1}],
            "needs effect NoExecute",
        ),
        ((*POD, "volumes"), [], "there is no volume 'job'"),
        ((*POD, "volumes", 0), {"name": "job"}, "needs exactly one source, has 0"),
        ((*POD, "volumes", 0), {"name": "shm", "emptyDir": {}}, "'shm' is there twice"),
        ((*POD, "topologySpreadConstraints", 0, "maxSkew"), 0, "maxSkew must be at least 1"),
        ((*POD, "subdomain"), "a.b", "is no DNS label"),
        ((*AGENT, "name"), "Agent", "is no DNS label"),
        ((*AGENT, "image"), " ", "image: is required"),
        ((*AGENT, "imagePullPolicy"), "Sometimes", "imagePullPolicy: is unknown"),
        ((*AGENT, "env"), [{"name": "a=b", "value": "1"}], "is no variable"),
        (
            (*AGENT, "env"),
            [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
            "has a value and a valueFrom",
        ),
        (
            (*AGENT, "env"),
            [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a'"}}}],
            "is not to be had",
        ),
        ((*AGENT, "readinessProbe"), {"periodSeconds": 5}, "needs exactly one of exec"),
        ((*AGENT, "volumeMounts", 0, "mountPath"), "/a:b", "holds a colon"),
        ((*AGENT, "volumeMounts", 0, "subPath"), "../a", "without .."),
        ((*AGENT, "ports"), [{"containerPort": 70000}], "70000 is no port"),
        ((*AGENT, "resources"), {"requests": {"cpu": "two"}}, "'two' is no quantity"),
        (
            (*AGENT, "resources"),
            {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}},
            "is more than its limit",
        ),
        ((*AGENT, "resources"), {"requests": {"nvidia.com/gpu": "1"}}, "must have a limit"),
        ((*AGENT, "resources"), {"limits": {"nvidia.com/gpu": "500m"}}, "a whole number"),
        ((*AGENT, "resources"), {"limits": {"gpu": "1"}}, "nor a qualified name"),
    ],
)
def test_rules_of_a_job(path, value, complaint):
    good = rendered("job", "Job")
    assert rules.problems([good]) == []
    assert complaint in "\n".join(rules.problems([changed(good, path, value)]))


@pytest.mark.parametrize(
    ("target", "kind", "path", "value", "complaint"),
    [
        ("spot", "Deployment", (*POD, "restartPolicy"), "Never", "not one of Always"),
        ("spot", "Deployment", ("spec", "selector"), {}, "spec.selector: is required"),
        (
            "spot", "Deployment", ("spec", "selector", "matchLabels", "a"), "b", "lack a=b",
        ),
        (
            "spot", "Deployment", ("spec", "strategy", "rollingUpdate", "maxUnavailable"), "0%",
            "can't both be 0",
        ),
        ("spot", "Deployment", ("spec", "strategy", "type"), "Recreate", "is not for type"),
        ("job", "Service", ("metadata", "name"), "1st", "must begin with a letter"),
        ("job", "Service", ("spec", "clusterIP"), None, "at least one is required"),
        ("job", "Service", ("spec", "ports"), [{"port": 1}, {"port": 2}], "a name each"),
        ("job", "PodDisruptionBudget", ("spec", "maxUnavailable"), 1, "exclude each other"),
        ("job", "PodDisruptionBudget", ("spec", "minAvailable"), "half", "no percentage"),
        ("job", "ConfigMap", ("data", "a/b"), "x", "'a/b' is no key"),
        ("job", "ConfigMap", ("data", "big"), "x" * (1 << 20), "more than 1048576 bytes"),
        ("spot", "RoleBinding", ("subjects", 0, "namespace"), None, "namespace: is required"),
    ],
)  # fmt: skip
def test_rules_of_what_stands_around_it(target, kind, path, value, complaint):
    good = rendered(target, kind)
    assert rules.problems([good]) == []
    assert complaint in "\n".join(rules.problems([changed(good, path, value)]))


REPLICATED: Path = ("spec", "replicatedJobs")
BROKEN_JOBSETS = [
    (("spec", "successPolicy", "operator"), "Some", "'Some' is not one of All, Any"),
    (("spec", "successPolicy", "operator"), None, "operator is required"),
    (("spec", "successPolicy", "targetReplicatedJobs"), ["x"], "no replicated job 'x'"),
    (("spec", "restarts"), 3, "spec.restarts: unknown field"),
    (("spec", "failurePolicy", "maxRestarts"), "3", "must be of type integer, not str"),
    (("spec", "failurePolicy", "maxRestarts"), -1, "is not within 0"),
    (
        ("spec", "failurePolicy", "rules"),
        [{"name": "1", "action": "FailJobSet"}],
        "does not match",
    ),
    (
        ("spec", "failurePolicy", "rules"),
        [{"name": "a", "action": "Retry"}],
        "'Retry' is not one of FailJobSet",
    ),
    (
        ("spec", "failurePolicy", "rules"),
        [{"name": "a", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"] * 2}],
        "an item is there twice",
    ),
    (("spec", "network", "subdomain"), "1a", "must begin with a letter"),
    (("spec", "startupPolicy"), {"startupPolicyOrder": "InOrder"}, "exclude each other"),
    ((*REPLICATED, 0, "dependsOn"), [{"name": "agents", "status": "Ready"}], "not listed before"),
    ((*REPLICATED, 1, "dependsOn", 0, "status"), "Started", "is not one of Ready, Complete"),
    ((*REPLICATED, 1, "name"), "data", "a name is there twice"),
    ((*REPLICATED, 1, "name"), "a" * 60, "longer than 63 characters"),
    ((*REPLICATED, 1, "template", "spec", "maxFailedIndexes"), 9, "more than the 4 completions"),
    (("apiVersion",), "jobset.x-k8s.io/v1", "must be jobset.x-k8s.io/v1alpha2"),
]


@pytest.mark.parametrize(("path", "value", "complaint"), BROKEN_JOBSETS)
def test_rules_of_a_jobset(path, value, complaint):
    roles = [{"name": "data", "command": ["serve"], "first": True}]
    good = rendered("jobset", "JobSet", roles=roles)
    assert rules.problems([good]) == []
    assert complaint in "\n".join(rules.problems([changed(good, path, value)]))


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("spec", "successPolicy"), None, "spec.successPolicy: can't be changed"),
        (("spec", "backoffLimitPerIndex"), 9, "spec.backoffLimitPerIndex: can't be changed"),
        ((*AGENT, "image"), "other", "spec.template: can't be changed"),
        (("spec", "completions"), 2, "changes only together with parallelism"),
        (("spec", "parallelism"), 2, None),
        (("spec", "ttlSecondsAfterFinished"), 2, None),
    ],
)
def test_rules_of_an_update(path, value, complaint):
    old = rendered("job", "Job")
    found = rules.update_problems(old, changed(old, path, value))
    assert found == [] if complaint is None else complaint in "\n".join(found)


def test_a_suspended_job_may_get_another_template_and_both_numbers_change_together():
    old = changed(rendered("job", "Job"), ("spec", "suspend"), True)
    assert rules.update_problems(old, changed(old, (*AGENT, "image"), "other")) == []
    both = changed(changed(old, ("spec", "completions"), 2), ("spec", "parallelism"), 2)
    assert rules.update_problems(old, both) == []


def test_other_kinds_know_what_is_fixed_too():
    jobset = rendered("jobset", "JobSet")
    deployment = rendered("spot", "Deployment")
    binding = rendered("spot", "RoleBinding")
    for old, path, value, complaint in (
        (jobset, (*REPLICATED, 0, "replicas"), 2, "delete the JobSet first"),
        (jobset, ("spec", "network"), {}, "spec.network: can't be changed"),
        (deployment, ("spec", "selector"), {}, "spec.selector: can't be changed"),
        (binding, ("roleRef", "name"), "x", "roleRef: can't be changed"),
    ):
        assert complaint in "\n".join(rules.update_problems(old, changed(old, path, value)))


def test_a_job_whose_name_begins_with_a_digit_is_refused_for_its_service():
    job = make_job({"volumes": [RUNS]}, name="7b-run")
    found = rules.problems(render(Request(job=job)))
    assert found == [
        "Service/7b-run: metadata.name: '7b-run' must begin with a letter and have at most 63 "
        "characters"
    ]
