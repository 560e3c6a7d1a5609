"""What a pod knows of itself, how its agent is told, and what the agent tells back.

The downward API fills in these variables; the agent's flags refer to them:

    POD_NAME       --node: a replacement is another node, so that the old one's state is its own
    POD_IP         --local-addr: where other nodes reach this one
    POD_MACHINE    --label kubernetes.io/hostname=…
    POD_ZONE       --label topology.kubernetes.io/zone=… (a label of the pod; the cluster copies it
    POD_REGION     from its machine since Kubernetes 1.35, an admission policy does so before)
    POD_INDEX      --label index=…: the completion index; empty in a Deployment
    POD_TOPOLOGY   the label that `elastic.topology` names, where it is another one

The other way round there is one file (`trainer.agent.readiness`): the agent keeps the one that
REMESH_READY_FILE names exactly while every worker of this node is inside a generation, and a
readiness probe looks for it. REMESH_SHOW_WORKERS has the agent copy what workers print to the pod's
log, each line behind `[g<generation> rank<rank>]`.
"""

from __future__ import annotations

from typing import Any

from trainer.deploy import names
from trainer.job import Job

READY_FILE = "REMESH_READY_FILE"
SHOW_WORKERS = "REMESH_SHOW_WORKERS"
_FACTS = {
    "POD_MACHINE": (names.HOSTNAME, "spec.nodeName"),
    "POD_ZONE": (names.ZONE, f"metadata.labels['{names.ZONE}']"),
    "POD_REGION": (names.REGION, f"metadata.labels['{names.REGION}']"),
    "POD_INDEX": ("index", f"metadata.annotations['{names.COMPLETION_INDEX}']"),
}


def pod_environment(job: Job) -> list[dict[str, Any]]:
    """Our variables, as a container's `env`."""
    env = [_field("POD_NAME", "metadata.name"), _field("POD_IP", "status.podIP")]
    env += [_field(variable, path) for variable, (_, path) in _facts(job).items()]
    values = {READY_FILE: names.READY_FILE, "HOME": names.TEMPORARY, "USER": "remesh"}
    values |= {SHOW_WORKERS: "1", "PYTHONUNBUFFERED": "1"}
    return env + [{"name": name, "value": value} for name, value in values.items()]


def identity_arguments(job: Job) -> list[str]:
    """The agent's flags that say which node it is, where, and with which labels."""
    arguments = ["--node", "$(POD_NAME)", "--local-addr", "$(POD_IP)"]
    for variable, (label, _) in _facts(job).items():
        arguments += ["--label", f"{label}=$({variable})"]
    return arguments


def _facts(job: Job) -> dict[str, tuple[str, str]]:
    topology = job.elastic.topology
    if topology is None or topology in {label for label, _ in _FACTS.values()}:
        return _FACTS
    return {**_FACTS, "POD_TOPOLOGY": (topology, f"metadata.labels['{topology}']")}


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
