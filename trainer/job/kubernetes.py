"""The `kubernetes` section: how the job looks on a cluster. Nothing else reads it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from trainer.job.section import Duration, Section
from trainer.outside.echo import shown

QUANTITY_PATTERN = r"^\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"
_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_.-]*$"


def _quantity(value: Any) -> str:
    text = str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not re.fullmatch(QUANTITY_PATTERN, text.strip()):
        raise ValueError(f"{shown(value)} is no quantity; write 2, 500m, 16Gi or 1.5T")
    return text.strip()


def _endpoints(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


Quantity = Annotated[
    str,
    BeforeValidator(_quantity),
    WithJsonSchema(
        {"anyOf": [{"type": "number"}, {"type": "string", "pattern": QUANTITY_PATTERN}]}
    ),
]
Endpoints = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[^\s,]+:\d+$")], ...],
    BeforeValidator(_endpoints),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Label = Annotated[str, Field(pattern=_LABEL)]
Subdomain = Annotated[str, Field(pattern=_SUBDOMAIN)]
Variable = Annotated[str, Field(pattern=_VARIABLE)]


class ResourcesSection(Section):
    """Of one node, that is, of one pod. Memory and accelerators are requested and limited alike."""

    cpu: Quantity | None = Field(
        None, description="Cores that are requested; never a limit, which would throttle."
    )
    memory: Quantity | None = Field(None, description="Memory, what lies in /dev/shm included.")
    gpu: int | None = Field(None, ge=0, description="Accelerators.")
    gpu_name: str = Field("nvidia.com/gpu", description="The resource that counts accelerators.")
    ephemeral_storage: Quantity | None = Field(None, description="Local disk.")
    other: dict[str, Quantity] = Field(
        default_factory=dict, description="Further resources by name, such as `rdma/ib: 1`."
    )


class VolumeSection(Section):
    """A volume and where it is mounted; exactly one source."""

    name: Label = Field(description="Name of the volume.")
    mount: str = Field(pattern=r"^/[^:]*$", description="Absolute path in the container.")
    claim: Subdomain | None = Field(None, description="A PersistentVolumeClaim of the namespace.")
    secret: Subdomain | None = Field(None, description="A Secret; its keys become files.")
    config_map: Subdomain | None = Field(None, description="A ConfigMap; its keys become files.")
    host_path: str | None = Field(None, description="A directory of the machine.")
    nfs: str | None = Field(
        None, pattern=r"^[^:\s]+:/.*$", description="An NFS export, `server:/path`."
    )
    scratch: Quantity | None = Field(
        None, description="An empty directory of this size, gone with the pod."
    )
    read_only: bool = Field(False, description="Whether the mount is read-only.")
    sub_path: str | None = Field(None, description="A directory inside the volume.")

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources that were given."""
        every = ("claim", "secret", "config_map", "host_path", "nfs", "scratch")
        return tuple(name for name in every if getattr(self, name) is not None)

    @property
    def shared(self) -> bool:
        """Whether every pod of the job sees the same files, and they outlive it."""
        return self.claim is not None or self.nfs is not None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if len(self.sources) != 1:
            given = " and ".join(self.sources) or "none"
            raise ValueError(
                "give exactly one of claim, secret, config_map, host_path, nfs and scratch, "
                f"not {given}"
            )
        return self


class TolerationSection(Section):
    """A taint of nodes that the pods put up with."""

    key: str | None = Field(None, description="Key of the taint; null tolerates every key.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="How the value is compared.")
    value: str | None = Field(None, description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint; null is every effect."
    )
    seconds: int | None = Field(
        None, ge=0, description="For NoExecute: how long it is put up with."
    )


class RoleSection(Section):
    """Pods beside the agents, for `target: jobset`: a data server, an evaluator."""

    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,14}[a-z0-9])?$")] = Field(
        description="Name of the role; part of its pods' names."
    )
    image: str | None = Field(None, description="Its image; by default the job's.")
    command: tuple[str, ...] = Field(min_length=1, description="What its container runs.")
    replicas: int = Field(1, gt=0, description="How many pods.")
    resources: ResourcesSection = Field(ResourcesSection(), description="What a pod of it gets.")
    env: dict[Variable, str] = Field(default_factory=dict, description="Its environment.")
    first: bool = Field(False, description="Whether the agents start only once it is ready.")


class KubernetesSection(Section):
    """Read by `remesh render` and its kin; a run on one machine ignores it."""

    target: Literal["job", "spot", "jobset"] = Field(
        "job",
        description="job: an Indexed Job, for nodes that mostly stay. spot: a Deployment of "
        "agents, replaced at once, for nodes that come and go. jobset: a JobSet.",
    )
    namespace: Label | None = Field(
        None, description="Namespace of the job; by default the current context's."
    )
    image: str = Field("remesh:0.1.0", min_length=1, description="The container image.")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        None, description="When the image is pulled; null is the cluster's default."
    )
    pull_secrets: tuple[Subdomain, ...] = Field((), description="Secrets of the registry, by name.")
    rendezvous: Endpoints = Field(
        ("remesh-rendezvous.remesh-system.svc:29400",),
        description="Endpoints host:port of the rendezvous service; a text splits at commas.",
    )
    tls_secret: Subdomain | None = Field(
        None,
        description="Secret whose ca.crt signed the rendezvous's certificate; null speaks "
        "plaintext.",
    )
    tls_client: bool = Field(
        False, description="Whether agents show the secret's tls.crt and tls.key (mutual TLS)."
    )
    token_secret: Subdomain | None = Field(
        "remesh-token", description="Secret whose key `token` opens the rendezvous; null has none."
    )
    resources: ResourcesSection = Field(ResourcesSection(), description="What one node gets.")
    shared_memory: Quantity | None = Field(
        None,
        description="Size of /dev/shm, which counts as the pod's memory; by default half of "
        "resources.memory.",
    )
    work_directory: str = Field(
        "/var/lib/remesh",
        pattern=r"^/[^:]+$",
        description="Where the agents start, and relative paths begin; mount a volume there or "
        "above it to keep the run directory.",
    )
    volumes: tuple[VolumeSection, ...] = Field((), description="Volumes of every agent.")
    node_selector: dict[str, str] = Field(
        default_factory=dict, description="Labels that a machine must have."
    )
    tolerations: tuple[TolerationSection, ...] = Field((), description="Taints put up with.")
    priority_class: Subdomain | None = Field(None, description="PriorityClass of the pods.")
    queue: Subdomain | None = Field(None, description="LocalQueue of Kueue that admits the job.")
    service_account: Subdomain | None = Field(
        None, description="ServiceAccount of the agents; its token is not mounted."
    )
    env: dict[Variable, str] = Field(
        default_factory=dict, description="Environment variables of agents and workers."
    )
    secrets: dict[Variable, Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$")]] = Field(
        default_factory=dict,
        description="Environment variables from Secrets: `NAME: secret/key`.",
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="Further labels of every object and pod."
    )
    annotations: dict[str, str] = Field(
        default_factory=dict, description="Further annotations of every object and pod."
    )
    pod_template: dict[str, Any] = Field(
        default_factory=dict,
        description="A patch over the agents' pod template: mappings merge, null removes, "
        "containers, volumes and env merge by name, other lists are replaced.",
    )
    roles: tuple[RoleSection, ...] = Field((), description="Further roles of `target: jobset`.")
    grace_period: Duration | None = Field(
        None,
        description="Seconds from SIGTERM to SIGKILL; by default elastic.drain_grace + 5, and at "
        "most 25 for spot, where machines give no more.",
    )
    deadline: Duration | None = Field(
        None, description="Time after which the whole job is ended as failed."
    )
    ttl_after_finished: Duration | None = Field(
        86400.0, description="Time after which the finished job's objects are removed; null keeps."
    )
