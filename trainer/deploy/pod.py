"""The agents' pod template, and what other pods of the job have in common with it. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from trainer.deploy import names, quantity
from trainer.deploy.environment import identity_arguments, pod_environment
from trainer.deploy.merge import merge
from trainer.deploy.plan import Plan
from trainer.job import Job
from trainer.job.kubernetes import (
    KubernetesSection,
    ResourcesSection,
    TolerationSection,
    VolumeSection,
)

Manifest = dict[str, Any]

POD_SECURITY: Manifest = {
    "runAsNonRoot": True,
    "runAsUser": names.USER,
    "runAsGroup": names.USER,
    "fsGroup": names.USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
NODE_GONE_SECONDS = 30


def agent_template(plan: Plan, *, restart: str) -> Manifest:
    """The pod template of the agents, with the user's patch over it."""
    section = plan.job.kubernetes
    template: Manifest = {
        "metadata": metadata(plan.job, component=names.AGENT, run_id=plan.run_id),
        "spec": {
            **pod_settings(section),
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": plan.grace,
            "topologySpreadConstraints": [_spread(plan.job)],
            "containers": [_agent(plan)],
            "volumes": _volumes(plan.job),
        },
    }
    merged: Manifest = merge(template, section.pod_template)
    return merged


def metadata(
    job: Job, *, component: str | None = None, run_id: str | None = None, name: str | None = None
) -> Manifest:
    """Labels and annotations of an object of the job; the user's never replace ours."""
    labels = {**job.kubernetes.labels, **names.labels(job, component)}
    annotations = dict(job.kubernetes.annotations)
    if run_id is not None:
        annotations[names.RUN_ID] = run_id
    made: Manifest = {} if name is None else {"name": name}
    made["labels"] = labels
    if annotations:
        made["annotations"] = annotations
    return made


def pod_settings(section: KubernetesSection) -> Manifest:
    """What every pod of the job has, whatever its part."""
    settings: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "tolerations": _tolerations(section.tolerations),
    }
    if section.service_account is not None:
        settings["serviceAccountName"] = section.service_account
    if section.priority_class is not None:
        settings["priorityClassName"] = section.priority_class
    if section.node_selector:
        settings["nodeSelector"] = section.node_selector
    if section.pull_secrets:
        settings["imagePullSecrets"] = [{"name": name} for name in section.pull_secrets]
    return settings


def image_of(section: KubernetesSection, image: str | None = None) -> Manifest:
    """The image and when it is pulled."""
    chosen: Manifest = {"image": image or section.image}
    if section.pull_policy is not None:
        chosen["imagePullPolicy"] = section.pull_policy
    return chosen


def resources_of(section: ResourcesSection) -> Manifest:
    """Requests and limits: memory, disk and devices alike, cores requested alone."""
    limits: dict[str, str] = {}
    if section.memory is not None:
        limits["memory"] = section.memory
    if section.ephemeral_storage is not None:
        limits["ephemeral-storage"] = section.ephemeral_storage
    if section.gpu:
        limits[section.gpu_name] = str(section.gpu)
    limits |= section.other
    requests = dict(limits)
    if section.cpu is not None:
        requests["cpu"] = section.cpu
    return {key: value for key, value in (("requests", requests), ("limits", limits)) if value}


def rendezvous_arguments(section: KubernetesSection) -> list[str]:
    """How any command of ours is told where the rendezvous is, and what to show it."""
    files = {}
    if section.tls_secret is not None:
        files["tls_ca"] = f"{names.TLS_DIRECTORY}/ca.crt"
        if section.tls_client:
            files["tls_cert"] = f"{names.TLS_DIRECTORY}/tls.crt"
            files["tls_key"] = f"{names.TLS_DIRECTORY}/tls.key"
    if section.token_secret is not None:
        files["token_file"] = f"{names.TOKEN_DIRECTORY}/token"
    arguments = ["--rdzv-endpoint", ",".join(section.rendezvous)]
    if files:
        arguments += ["--rdzv-conf", ",".join(f"{key}={path}" for key, path in files.items())]
    return arguments


def connection_mounts(section: KubernetesSection) -> tuple[list[Manifest], list[Manifest]]:
    """Volumes and mounts of the rendezvous's authority and token."""
    volumes: list[Manifest] = []
    mounts: list[Manifest] = []
    for name, secret, path in (
        ("tls", section.tls_secret, names.TLS_DIRECTORY),
        ("token", section.token_secret, names.TOKEN_DIRECTORY),
    ):
        if secret is not None:
            volumes.append({"name": name, "secret": {"secretName": secret, "defaultMode": 0o440}})
            mounts.append({"name": name, "mountPath": path, "readOnly": True})
    return volumes, mounts


def environment_of(env: dict[str, str], secrets: dict[str, str]) -> list[Manifest]:
    """The user's variables; `$(NAME)` refers to an earlier one, as everywhere in a pod."""
    listed: list[Manifest] = [{"name": name, "value": value} for name, value in env.items()]
    for name, reference in secrets.items():
        secret, _, key = reference.partition("/")
        listed.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    return listed


def _agent(plan: Plan) -> Manifest:
    section = plan.job.kubernetes
    ours = pod_environment(plan.job)
    users = environment_of(section.env, section.secrets)
    taken = {variable["name"] for variable in users}
    return {
        "name": names.AGENT_CONTAINER,
        **image_of(section),
        "args": [
            "run",
            f"{names.JOB_DIRECTORY}/job.yaml",
            *rendezvous_arguments(section),
            *identity_arguments(plan.job),
        ],
        "workingDir": section.work_directory,
        "env": [variable for variable in ours if variable["name"] not in taken] + users,
        "resources": resources_of(section.resources),
        "securityContext": CONTAINER_SECURITY,
        "readinessProbe": {
            "exec": {"command": ["test", "-e", names.READY_FILE]},
            "periodSeconds": 5,
            "failureThreshold": 3,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(plan.job),
    }


def _mounts(job: Job) -> list[Manifest]:
    section = job.kubernetes
    mounts: list[Manifest] = [
        {"name": "job", "mountPath": names.JOB_DIRECTORY, "readOnly": True},
        *connection_mounts(section)[1],
        {"name": "tmp", "mountPath": names.TEMPORARY},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    if not _work_is_mounted(section):
        mounts.append({"name": "work", "mountPath": section.work_directory})
    for volume in section.volumes:
        mount: Manifest = {"name": volume.name, "mountPath": volume.mount}
        if volume.read_only:
            mount["readOnly"] = True
        if volume.sub_path is not None:
            mount["subPath"] = volume.sub_path
        mounts.append(mount)
    return mounts


def _volumes(job: Job) -> list[Manifest]:
    section = job.kubernetes
    memory: Manifest = {"medium": "Memory"}
    size = section.shared_memory or (
        quantity.half(section.resources.memory) if section.resources.memory else None
    )
    if size is not None:
        memory["sizeLimit"] = size
    volumes: list[Manifest] = [
        {"name": "job", "configMap": {"name": f"{job.name}-job"}},
        *connection_mounts(section)[0],
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": memory},
    ]
    if not _work_is_mounted(section):
        volumes.append({"name": "work", "emptyDir": {}})
    return volumes + [_volume(volume) for volume in section.volumes]


def _work_is_mounted(section: KubernetesSection) -> bool:
    work = PurePosixPath(section.work_directory)
    return any(work.is_relative_to(volume.mount) for volume in section.volumes)


def _volume(volume: VolumeSection) -> Manifest:
    source: Manifest
    if volume.claim is not None:
        source = {"persistentVolumeClaim": {"claimName": volume.claim}}
        if volume.read_only:
            source["persistentVolumeClaim"]["readOnly"] = True
    elif volume.secret is not None:
        source = {"secret": {"secretName": volume.secret, "defaultMode": 0o440}}
    elif volume.config_map is not None:
        source = {"configMap": {"name": volume.config_map}}
    elif volume.nfs is not None:
        server, _, path = volume.nfs.partition(":")
        source = {"nfs": {"server": server, "path": path}}
    elif volume.host_path is not None:
        source = {"hostPath": {"path": volume.host_path}}
    else:
        source = {"emptyDir": {"sizeLimit": volume.scratch}}
    return {"name": volume.name, **source}


def _tolerations(users: tuple[TolerationSection, ...]) -> list[Manifest]:
    listed: list[Manifest] = []
    for toleration in users:
        one: Manifest = {"operator": toleration.operator}
        for key, value in (
            ("key", toleration.key),
            ("value", toleration.value),
            ("effect", toleration.effect),
            ("tolerationSeconds", toleration.seconds),
        ):
            if value is not None:
                one[key] = value
        listed.append(one)
    for condition in ("not-ready", "unreachable"):
        listed.append(
            {
                "key": f"node.kubernetes.io/{condition}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": NODE_GONE_SECONDS,
            }
        )
    return listed


def _spread(job: Job) -> Manifest:
    return {
        "maxSkew": 1,
        "topologyKey": names.HOSTNAME,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": names.labels(job, names.AGENT)},
    }
