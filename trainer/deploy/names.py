"""The names that rendered objects, the agent and the command agree on."""

from __future__ import annotations

from trainer.job import Job

APPLICATION = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "app.kubernetes.io/managed-by"
RUN_ID = "remesh.dev/run-id"
TARGET = "remesh.dev/target"
NODES = "remesh.dev/nodes"
QUEUE = "kueue.x-k8s.io/queue-name"
ELASTIC_JOB = "kueue.x-k8s.io/elastic-job"
COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
ZONE = "topology.kubernetes.io/zone"
REGION = "topology.kubernetes.io/region"
HOSTNAME = "kubernetes.io/hostname"

AGENT, COORDINATOR = "agent", "coordinator"
AGENT_CONTAINER = "agent"

JOB_DIRECTORY = "/etc/remesh/job"
TLS_DIRECTORY = "/etc/remesh/tls"
TOKEN_DIRECTORY = "/etc/remesh/token"
TEMPORARY = "/tmp"
READY_FILE = "/tmp/remesh/ready"
RESERVED_VOLUMES = ("job", "tls", "token", "tmp", "shm", "work")
USER = 10001

EXIT_WRONG_JOB, EXIT_DRAINED, EXIT_TERMINATED = 2, 75, 143


def labels(job: Job, component: str | None = None) -> dict[str, str]:
    """Labels of an object of the job; with a component, those its pods are selected by."""
    chosen = {APPLICATION: "remesh", INSTANCE: job.name}
    if component is not None:
        chosen[COMPONENT] = component
    return chosen


def selector(name: str) -> str:
    """Finds every object of the job `name`."""
    return f"{APPLICATION}=remesh,{INSTANCE}={name}"


def agents_selector(name: str) -> str:
    """Finds the agents' pods of the job `name`."""
    return f"{selector(name)},{COMPONENT}={AGENT}"
