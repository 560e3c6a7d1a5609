"""What each target renders, field by field."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.unit.deploy.jobs import RUNS, by_kind, handle, make_job, pod_of
from trainer.deploy import Request, render, rules, schema, to_yaml
from trainer.deploy.rules.pods import restricted
from trainer.errors import JobError
from trainer.job import from_mapping

TARGETS = ("job", "spot", "jobset")


def made(target: str, kubernetes: dict[str, Any] | None = None, **sections: Any) -> list[Any]:
    return render(Request(job=make_job(kubernetes, **sections), target=target, run_id="r1"))


def agent(target: str, kubernetes: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    container: dict[str, Any] = pod_of(handle(made(target, kubernetes, **sections)))["containers"][
        0
    ]
    return container


@pytest.mark.parametrize(
    ("target", "kinds"),
    [
        ("job", ["ConfigMap", "Service", "PodDisruptionBudget", "Job"]),
        (
            "spot",
            ["ConfigMap", "Service", "PodDisruptionBudget", "Deployment", "ServiceAccount",
             "Role", "RoleBinding", "Job"],
        ),
        ("jobset", ["ConfigMap", "PodDisruptionBudget", "JobSet"]),
    ],
)  # fmt: skip
def test_each_target_renders_its_objects_in_the_order_they_are_applied(target, kinds):
    assert [one["kind"] for one in made(target)] == kinds


def test_the_indexed_job_keeps_the_minimum_to_the_rendezvous_and_never_counts_preemption():
    spec = by_kind(made("job"), "Job")["spec"]
    spec.pop("template")
    assert spec == {
        "completionMode": "Indexed",
        "parallelism": 4,
        "completions": 4,
        "backoffLimitPerIndex": 3,
        "maxFailedIndexes": 2,
        "podReplacementPolicy": "Failed",
        "successPolicy": {"rules": [{"succeededCount": 1}]},
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "agent", "operator": "In", "values": [2]},
                },
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
                {
                    "action": "Ignore",
                    "onExitCodes": {
                        "containerName": "agent",
                        "operator": "In",
                        "values": [75, 143],
                    },
                },
            ]
        },
        "ttlSecondsAfterFinished": 86400,
    }


def test_the_agent_runs_the_job_from_its_config_map():
    container = agent("job", {"image": "registry.example/remesh:1", "rendezvous": "a:1,b:2"})
    assert container["image"] == "registry.example/remesh:1"
    assert container["args"] == [
        "run", "/etc/remesh/job/job.yaml", "--rdzv-endpoint", "a:1,b:2",
        "--rdzv-conf", "token_file=/etc/remesh/token/token",
        "--node", "$(POD_NAME)", "--local-addr", "$(POD_IP)",
        "--label", "kubernetes.io/hostname=$(POD_MACHINE)",
        "--label", "topology.kubernetes.io/zone=$(POD_ZONE)",
        "--label", "topology.kubernetes.io/region=$(POD_REGION)",
        "--label", "index=$(POD_INDEX)",
    ]  # fmt: skip
    inside = yaml.safe_load(by_kind(made("job"), "ConfigMap")["data"]["job.yaml"])
    assert inside["run"]["id"] == "r1"
    assert inside["elastic"]["nodes"] == "2:4"
    assert from_mapping(inside).elastic.max_nodes == 4


@pytest.mark.parametrize(
    ("elastic", "minimum"),
    [("2:4", 2), ("1:4", 1), ("4", 3), ("2", 1), ("1:1", None)],
)
def test_the_budget_spares_the_minimum_but_never_blocks_a_machine_for_good(elastic, minimum):
    manifests = made("job", elastic={"nodes": elastic})
    budgets = [one for one in manifests if one["kind"] == "PodDisruptionBudget"]
    assert [one["spec"]["minAvailable"] for one in budgets] == (
        [] if minimum is None else [minimum]
    )
    for budget in budgets:
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize(
    ("target", "elastic", "kubernetes", "grace", "drain"),
    [
        ("job", {}, {}, 35, 30),
        ("job", {"drain_grace": "90s"}, {}, 95, 90),
        ("spot", {}, {}, 25, 20),
        ("spot", {"drain_grace": "8s"}, {}, 13, 8),
        ("job", {}, {"grace_period": "15s"}, 15, 10),
        ("spot", {}, {"grace_period": "2m"}, 120, 30),
    ],
)
def test_the_drain_always_fits_into_the_grace_period(target, elastic, kubernetes, grace, drain):
    manifests = made(target, kubernetes, elastic={"nodes": "2:4", **elastic})
    assert pod_of(handle(manifests))["terminationGracePeriodSeconds"] == grace
    inside = yaml.safe_load(by_kind(manifests, "ConfigMap")["data"]["job.yaml"])
    assert inside["elastic"]["drain_grace"] == drain


@pytest.mark.parametrize(
    ("resources", "nproc", "ranks"),
    [
        ({}, "auto", 1),
        ({"cpu": "3500m"}, "auto", 3),
        ({"cpu": "96", "gpu": 8}, "auto", 8),
        ({"cpu": "96", "gpu": 8}, "gpu", 8),
        ({"cpu": 12, "gpu": 8}, "cpu", 12),
        ({"cpu": 12}, 2, 2),
    ],
)
def test_a_pods_ranks_are_counted_from_what_it_asks_for(resources, nproc, ranks):
    manifests = made("job", {"resources": resources}, elastic={"nodes": 2, "nproc_per_node": nproc})
    inside = yaml.safe_load(by_kind(manifests, "ConfigMap")["data"]["job.yaml"])
    assert inside["elastic"]["nproc_per_node"] == ranks


def test_resources_limit_memory_and_devices_but_not_cores():
    wanted = {"cpu": 96, "memory": "512Gi", "gpu": 8, "other": {"rdma/ib": 1}}
    container = agent("job", {"resources": wanted})
    limits = {"memory": "512Gi", "nvidia.com/gpu": "8", "rdma/ib": "1"}
    assert container["resources"] == {"limits": limits, "requests": {**limits, "cpu": "96"}}
    pod = pod_of(handle(made("job", {"resources": wanted})))
    shm = next(volume for volume in pod["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "262144Mi"}


def test_the_pod_knows_itself_by_the_downward_api():
    container = agent("job", elastic={"nodes": 2, "topology": "rack"})
    fields = {
        one["name"]: one["valueFrom"]["fieldRef"]["fieldPath"]
        for one in container["env"]
        if "valueFrom" in one
    }
    assert fields == {
        "POD_NAME": "metadata.name",
        "POD_IP": "status.podIP",
        "POD_MACHINE": "spec.nodeName",
        "POD_ZONE": "metadata.labels['topology.kubernetes.io/zone']",
        "POD_REGION": "metadata.labels['topology.kubernetes.io/region']",
        "POD_INDEX": "metadata.annotations['batch.kubernetes.io/job-completion-index']",
        "POD_TOPOLOGY": "metadata.labels['rack']",
    }
    assert container["args"][-2:] == ["--label", "rack=$(POD_TOPOLOGY)"]
    probe = container["readinessProbe"]["exec"]["command"]
    ready = next(one["value"] for one in container["env"] if one["name"] == "REMESH_READY_FILE")
    assert probe == ["test", "-e", ready]


@pytest.mark.parametrize(
    ("kubernetes", "conf"),
    [
        ({"token_secret": None}, None),
        ({}, "token_file=/etc/remesh/token/token"),
        (
            {"tls_secret": "remesh-tls"},
            "tls_ca=/etc/remesh/tls/ca.crt,token_file=/etc/remesh/token/token",
        ),
        (
            {"tls_secret": "remesh-tls", "tls_client": True, "token_secret": None},
            "tls_ca=/etc/remesh/tls/ca.crt,tls_cert=/etc/remesh/tls/tls.crt,"
            "tls_key=/etc/remesh/tls/tls.key",
        ),
    ],
)
def test_what_is_shown_to_the_rendezvous_is_what_the_secrets_hold(kubernetes, conf):
    for target in TARGETS:
        args = agent(target, kubernetes)["args"]
        shown = args[args.index("--rdzv-conf") + 1] if "--rdzv-conf" in args else None
        assert shown == conf


def test_secrets_reach_the_pod_by_reference_alone():
    kubernetes = {
        "env": {"NCCL_DEBUG": "WARN", "HOME": "/data"},
        "secrets": {"AWS_SECRET_ACCESS_KEY": "s3/secret"},
        "tls_secret": "my-tls",
        "token_secret": None,
    }
    container = agent("job", kubernetes)
    env = {one["name"]: one for one in container["env"]}
    assert len(env) == len(container["env"])
    assert env["HOME"] == {"name": "HOME", "value": "/data"}
    reference = {"secretKeyRef": {"name": "s3", "key": "secret"}}
    assert env["AWS_SECRET_ACCESS_KEY"]["valueFrom"] == reference
    volumes = {one["name"]: one for one in pod_of(handle(made("job", kubernetes)))["volumes"]}
    assert volumes["tls"]["secret"] == {"secretName": "my-tls", "defaultMode": 0o440}
    assert "token" not in volumes


def test_a_queue_makes_the_job_kueues_and_elastic_only_where_it_is():
    elastic = by_kind(made("job", {"queue": "team-a"}), "Job")["metadata"]
    assert elastic["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert elastic["annotations"]["kueue.x-k8s.io/elastic-job"] == "true"
    fixed = by_kind(made("job", {"queue": "team-a"}, elastic={"nodes": 4}), "Job")["metadata"]
    assert "kueue.x-k8s.io/elastic-job" not in fixed["annotations"]
    assert "kueue.x-k8s.io/queue-name" not in by_kind(made("job"), "Job")["metadata"]["labels"]


def test_spot_is_a_deployment_and_a_job_to_wait_for():
    manifests = made("spot", {"deadline": "2h"})
    agents = by_kind(manifests, "Deployment")
    assert agents["metadata"]["name"] == "demo-agents"
    assert agents["spec"]["replicas"] == 4
    assert agents["spec"]["template"]["spec"]["restartPolicy"] == "Always"
    job = by_kind(manifests, "Job")["spec"]
    assert job["activeDeadlineSeconds"] == 7260
    pod = job["template"]["spec"]
    assert pod["containers"][0]["args"] == [
        "--run-id", "r1", "--deployment", "demo-agents", "--rdzv-endpoint",
        "remesh-rendezvous.remesh-system.svc:29400", "--rdzv-conf",
        "token_file=/etc/remesh/token/token", "--deadline", "7200",
    ]  # fmt: skip
    assert pod["automountServiceAccountToken"] is True
    role = by_kind(manifests, "Role")
    assert role["rules"] == [
        {
            "apiGroups": ["apps"],
            "resources": ["deployments/scale"],
            "resourceNames": ["demo-agents"],
            "verbs": ["get", "patch"],
        }
    ]
    subject = by_kind(manifests, "RoleBinding")["subjects"][0]
    assert subject["namespace"] == "default"


def test_a_jobset_starts_what_comes_first_and_ends_with_the_agents():
    roles = [
        {"name": "evaluator", "command": ["python", "-m", "evaluate"]},
        {"name": "data", "command": ["serve"], "replicas": 2, "first": True},
    ]
    spec = by_kind(made("jobset", {"roles": roles, "deadline": 60}), "JobSet")["spec"]
    assert [job["name"] for job in spec["replicatedJobs"]] == ["data", "agents", "evaluator"]
    assert spec["replicatedJobs"][1]["dependsOn"] == [{"name": "data", "status": "Ready"}]
    assert spec["replicatedJobs"][1]["template"]["spec"]["activeDeadlineSeconds"] == 60
    assert spec["successPolicy"] == {"operator": "All", "targetReplicatedJobs": ["agents"]}
    assert spec["failurePolicy"] == {"maxRestarts": 0}


def test_the_users_patch_has_the_last_word_on_the_pod():
    patch = {
        "metadata": {"annotations": {"team": "a"}},
        "spec": {
            "hostNetwork": True,
            "topologySpreadConstraints": None,
            "containers": [
                {"name": "agent", "env": [{"name": "A", "value": "1"}]},
                {"name": "side", "image": "x"},
            ],
        },
    }
    template = handle(made("job", {"pod_template": patch}))["spec"]["template"]
    assert template["metadata"]["annotations"] == {"remesh.dev/run-id": "r1", "team": "a"}
    assert template["spec"]["hostNetwork"] is True
    assert "topologySpreadConstraints" not in template["spec"]
    first, second = template["spec"]["containers"]
    assert first["args"][0] == "run"
    assert first["env"][-1] == {"name": "A", "value": "1"}
    assert second == {"name": "side", "image": "x"}


def test_a_script_travels_with_the_job():
    job = from_mapping(
        {
            "name": "plain",
            "entrypoint": {"script": "scripts/train.py", "args": ["--lr", "1"]},
            "elastic": {"nodes": 2},
        }
    )
    manifests = render(Request(job=job, files={"scripts/train.py": "print('hello')\n"}))
    data = by_kind(manifests, "ConfigMap")["data"]
    assert data["train.py"] == "print('hello')\n"
    inside = yaml.safe_load(data["job.yaml"])
    assert inside["entrypoint"]["script"] == "/etc/remesh/job/train.py"


@pytest.mark.parametrize(
    ("sections", "kubernetes", "complaint"),
    [
        ({}, {"volumes": []}, "mount a claim at /var/lib/remesh"),
        ({"checkpoint": {"directory": "/elsewhere"}}, {}, "checkpoints would go to /elsewhere"),
        ({}, {"volumes": [{**RUNS, "name": "tmp"}]}, "the name tmp is taken"),
        ({}, {"volumes": [RUNS, {**RUNS, "mount": "/b"}]}, "the name runs is given twice"),
        ({}, {"volumes": [RUNS, {**RUNS, "name": "b"}]}, "/var/lib/remesh is already mounted"),
        (
            {"elastic": {"nodes": 2, "nproc_per_node": 4}},
            {"resources": {"gpu": 8}},
            "resources.gpu is 8 and elastic.nproc_per_node 4",
        ),
        ({"run": {"device": "cuda"}}, {}, "set resources.gpu"),
        ({}, {"grace_period": "4s"}, "must be longer than 5 s"),
        ({}, {"roles": [{"name": "a", "command": ["x"]}]}, "roles need target jobset"),
        ({}, {"env": {"A": "1"}, "secrets": {"A": "s/k"}}, "A is in env and in secrets"),
        ({}, {"rendezvous": []}, "names no endpoint"),
    ],
)
def test_what_cannot_work_on_a_cluster_is_refused_with_its_mend(sections, kubernetes, complaint):
    with pytest.raises(JobError) as refused:
        made("job", kubernetes, **sections)
    assert complaint in str(refused.value)


def test_object_stores_and_jobs_without_checkpoints_need_no_volume():
    made("job", {"volumes": []}, checkpoint={"directory": "s3://bucket/runs"})
    made("job", {"volumes": []}, checkpoint={"every": 0, "at_end": False})


def test_the_run_id_follows_the_job_when_nobody_names_it():
    first = render(Request(job=make_job()))
    again = render(Request(job=make_job()))
    other = render(Request(job=make_job({"env": {"A": "1"}})))
    named = render(Request(job=make_job(run={"id": "mine"})))
    ids = [
        one[0]["metadata"]["annotations"]["remesh.dev/run-id"]
        for one in (first, again, other, named)
    ]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0].startswith("demo-")
    assert ids[3] == "mine"


FULL = {
    "namespace": "team",
    "tls_secret": "remesh-tls",
    "tls_client": True,
    "image": "registry.example:5000/remesh@sha256:" + "0" * 64,
    "pull_policy": "Always",
    "pull_secrets": ["registry"],
    "resources": {
        "cpu": 96, "memory": "1Ti", "gpu": 8, "ephemeral_storage": "100Gi",
        "other": {"rdma/ib": 8},
    },
    "shared_memory": "64Gi",
    "volumes": [
        RUNS,
        {"name": "corpus", "mount": "/data", "nfs": "server:/export", "read_only": True},
        {"name": "config", "mount": "/config", "config_map": "settings", "sub_path": "a/b"},
        {"name": "keys", "mount": "/keys", "secret": "keys"},
        {"name": "fast", "mount": "/fast", "host_path": "/mnt/nvme"},
        {"name": "scratch", "mount": "/scratch", "scratch": "1Ti"},
    ],
    "node_selector": {"pool": "gpu"},
    "tolerations": [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "spot", "value": "true", "effect": "NoExecute", "seconds": 60},
    ],
    "priority_class": "high",
    "queue": "team-a",
    "service_account": "trainer",
    "env": {"NCCL_DEBUG": "WARN"},
    "secrets": {"TOKEN": "s/k"},
    "labels": {"team": "a"},
    "annotations": {"example.com/owner": "A. Person"},
    "deadline": "7d",
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kubernetes", [{}, FULL], ids=["small", "full"])
def test_everything_that_is_rendered_would_be_accepted(target, kubernetes):
    if target == "jobset":
        roles = [{"name": "data", "command": ["serve"], "first": True, "env": {"A": "1"}}]
        kubernetes = {**kubernetes, "roles": roles}
    manifests = made(target, kubernetes)
    assert rules.problems(manifests) == []
    assert schema.problems(manifests, schema.newest_versions()) == []
    assert len(schema.newest_versions()) == 3
    again = [one for one in yaml.safe_load_all(to_yaml(manifests)) if one is not None]
    assert again == manifests
    if kubernetes.get("volumes") is None:
        assert list(restricted(pod_of(handle(manifests)))) == []
