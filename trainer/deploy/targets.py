"""What holds the agents: an Indexed Job, a Deployment with its handle, or a JobSet. Pure."""

from __future__ import annotations

import math

from trainer.deploy import names
from trainer.deploy.plan import Plan
from trainer.deploy.pod import (
    CONTAINER_SECURITY,
    Manifest,
    agent_template,
    connection_mounts,
    environment_of,
    image_of,
    metadata,
    pod_settings,
    rendezvous_arguments,
    resources_of,
)
from trainer.job.kubernetes import RoleSection

COORDINATOR_CPU, COORDINATOR_MEMORY = "50m", "256Mi"
DEADLINE_MARGIN = 60
NOT_COUNTED = [names.EXIT_DRAINED, names.EXIT_TERMINATED]


def indexed_job(plan: Plan) -> Manifest:
    """One index a node; the rendezvous keeps the minimum, the Job only fails below it."""
    job = plan.job
    made = object_of(plan, "batch/v1", "Job", plan.name)
    if job.kubernetes.queue is not None:
        made["metadata"]["labels"][names.QUEUE] = job.kubernetes.queue
        if job.elastic.min_nodes < job.elastic.max_nodes:
            made["metadata"]["annotations"][names.ELASTIC_JOB] = "true"
    made["spec"] = _indexed_spec(plan)
    _finish(plan, made["spec"])
    return made


def deployment(plan: Plan) -> Manifest:
    """Agents that are replaced at once, without a Job's back-off."""
    job = plan.job
    made = object_of(plan, "apps/v1", "Deployment", plan.agents)
    if job.kubernetes.queue is not None:
        made["metadata"]["labels"][names.QUEUE] = job.kubernetes.queue
    made["spec"] = {
        "replicas": job.elastic.max_nodes,
        "selector": {"matchLabels": names.labels(job, names.AGENT)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
        },
        "revisionHistoryLimit": 1,
        "template": agent_template(plan, restart="Always"),
    }
    return made


def coordinator(plan: Plan) -> list[Manifest]:
    """The handle of a spot job: ends when the rendezvous says so, and sends the agents home."""
    job, section = plan.job, plan.job.kubernetes
    account = f"{plan.name}-coordinator"
    volumes, mounts = connection_mounts(section)
    arguments = ["--run-id", plan.run_id, "--deployment", plan.agents]
    arguments += rendezvous_arguments(section)
    if section.deadline is not None:
        arguments += ["--deadline", str(math.ceil(section.deadline))]
    settings = pod_settings(section)
    settings.pop("priorityClassName", None)
    settings.pop("nodeSelector", None)
    handle = object_of(plan, "batch/v1", "Job", plan.name)
    handle["spec"] = {
        "backoffLimit": 6,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                _on_codes("FailJob", [1, names.EXIT_WRONG_JOB, names.EXIT_DRAINED], "coordinator"),
                _ON_DISRUPTION,
            ]
        },
        "template": {
            "metadata": metadata(job, component=names.COORDINATOR, run_id=plan.run_id),
            "spec": {
                **settings,
                "automountServiceAccountToken": True,
                "serviceAccountName": account,
                "restartPolicy": "Never",
                "containers": [
                    {
                        "name": "coordinator",
                        **image_of(section),
                        # -I: an image's PYTHONPATH may lead to files that have our names.
                        "command": ["python", "-I", "-m", "trainer.deploy.coordinator"],
                        "args": arguments,
                        "env": [
                            {
                                "name": "POD_NAMESPACE",
                                "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}},
                            }
                        ],
                        "resources": {
                            "requests": {"cpu": COORDINATOR_CPU, "memory": COORDINATOR_MEMORY},
                            "limits": {"memory": COORDINATOR_MEMORY},
                        },
                        "securityContext": CONTAINER_SECURITY,
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "volumeMounts": mounts,
                    }
                ],
                "volumes": volumes,
            },
        },
    }
    _finish(plan, handle["spec"], margin=DEADLINE_MARGIN)
    return [*_coordinator_rights(plan, account), handle]


def jobset(plan: Plan) -> Manifest:
    """The agents as one replicated Job, other roles beside it."""
    job = plan.job
    made = object_of(plan, "jobset.x-k8s.io/v1alpha2", "JobSet", plan.name)
    if job.kubernetes.queue is not None:
        made["metadata"]["labels"][names.QUEUE] = job.kubernetes.queue
    roles = sorted(job.kubernetes.roles, key=lambda role: not role.first)
    agents: Manifest = {"name": "agents", "replicas": 1, "template": {"spec": _indexed_spec(plan)}}
    first = [role for role in roles if role.first]
    if first:
        agents["dependsOn"] = [{"name": role.name, "status": "Ready"} for role in first]
    spec: Manifest = {
        "network": {
            "enableDNSHostnames": True,
            "publishNotReadyAddresses": True,
            "subdomain": plan.name,
        },
        "successPolicy": {"operator": "All", "targetReplicatedJobs": ["agents"]},
        # The rendezvous restarts what can be restarted, so what still fails is final.
        "failurePolicy": {"maxRestarts": 0},
        "replicatedJobs": [
            *(_role(plan, role) for role in first),
            agents,
            *(_role(plan, role) for role in roles if not role.first),
        ],
    }
    ttl = job.kubernetes.ttl_after_finished
    if ttl is not None:
        spec["ttlSecondsAfterFinished"] = math.ceil(ttl)
    if job.kubernetes.deadline is not None:
        agents["template"]["spec"]["activeDeadlineSeconds"] = math.ceil(job.kubernetes.deadline)
    made["spec"] = spec
    return made


_ON_DISRUPTION: Manifest = {
    "action": "Ignore",
    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
}


def _on_codes(action: str, codes: list[int], container: str) -> Manifest:
    return {
        "action": action,
        "onExitCodes": {"containerName": container, "operator": "In", "values": sorted(codes)},
    }


def _indexed_spec(plan: Plan) -> Manifest:
    elastic = plan.job.elastic
    return {
        "completionMode": "Indexed",
        "parallelism": elastic.max_nodes,
        "completions": elastic.max_nodes,
        "backoffLimitPerIndex": elastic.max_restarts,
        "maxFailedIndexes": elastic.max_nodes - elastic.min_nodes,
        "podReplacementPolicy": "Failed",
        "successPolicy": {"rules": [{"succeededCount": 1}]},
        "podFailurePolicy": {
            "rules": [
                _on_codes("FailJob", [names.EXIT_WRONG_JOB], names.AGENT_CONTAINER),
                _ON_DISRUPTION,
                _on_codes("Ignore", NOT_COUNTED, names.AGENT_CONTAINER),
            ]
        },
        "template": _hosted(plan),
    }


def _hosted(plan: Plan) -> Manifest:
    template = agent_template(plan, restart="Never")
    template["spec"].setdefault("subdomain", plan.name)
    return template


def _role(plan: Plan, role: RoleSection) -> Manifest:
    section = plan.job.kubernetes
    pod: Manifest = {
        "metadata": metadata(plan.job, component=role.name),
        "spec": {
            **pod_settings(section),
            "restartPolicy": "OnFailure",
            "containers": [
                {
                    "name": role.name,
                    **image_of(section, role.image),
                    "command": list(role.command),
                    "env": environment_of(role.env, {}),
                    "resources": resources_of(role.resources),
                    "securityContext": CONTAINER_SECURITY,
                    "volumeMounts": [{"name": "tmp", "mountPath": names.TEMPORARY}],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }
    spec: Manifest = {
        "completionMode": "Indexed",
        "parallelism": role.replicas,
        "completions": role.replicas,
        "template": pod,
    }
    return {"name": role.name, "replicas": 1, "template": {"spec": spec}}


def _coordinator_rights(plan: Plan, account: str) -> list[Manifest]:
    rights = object_of(plan, "rbac.authorization.k8s.io/v1", "Role", account)
    rights["rules"] = [
        {
            "apiGroups": ["apps"],
            "resources": ["deployments/scale"],
            "resourceNames": [plan.agents],
            "verbs": ["get", "patch"],
        }
    ]
    binding = object_of(plan, "rbac.authorization.k8s.io/v1", "RoleBinding", account)
    binding["roleRef"] = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": account,
    }
    binding["subjects"] = [{"kind": "ServiceAccount", "name": account, "namespace": plan.namespace}]
    return [object_of(plan, "v1", "ServiceAccount", account), rights, binding]


def object_of(plan: Plan, version: str, kind: str, name: str) -> Manifest:
    """The head of an object of the job."""
    made = metadata(plan.job, run_id=plan.run_id, name=name)
    made["annotations"][names.TARGET] = plan.target
    made["annotations"][names.NODES] = plan.job.elastic.nodes
    if plan.namespace is not None:
        made["namespace"] = plan.namespace
    return {"apiVersion": version, "kind": kind, "metadata": made}


def _finish(plan: Plan, spec: Manifest, *, margin: int = 0) -> None:
    section = plan.job.kubernetes
    if section.deadline is not None:
        spec["activeDeadlineSeconds"] = math.ceil(section.deadline) + margin
    if section.ttl_after_finished is not None:
        spec["ttlSecondsAfterFinished"] = math.ceil(section.ttl_after_finished)
