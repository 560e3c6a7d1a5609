"""Rules of the objects around the agents. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trainer.deploy.rules.pods import template_rules
from trainer.deploy.rules.words import (
    is_label,
    is_label_value,
    is_qualified,
    is_service_name,
    is_subdomain,
)

Manifest = Mapping[str, Any]

MOST_DATA = 1 << 20
MOST_ANNOTATIONS = 256 << 10


def metadata_rules(manifest: Manifest) -> Iterator[str]:
    """Names, labels and annotations of any object."""
    metadata = manifest.get("metadata") or {}
    name, namespace = str(metadata.get("name", "")), metadata.get("namespace")
    if not is_subdomain(name):
        yield f"metadata.name: {name!r} is no DNS name"
    if namespace is not None and not is_label(str(namespace)):
        yield f"metadata.namespace: {namespace!r} is no DNS label"
    for key, value in (metadata.get("labels") or {}).items():
        if not is_qualified(key):
            yield f"metadata.labels: {key!r} is no key of a label"
        if not isinstance(value, str) or not is_label_value(value):
            yield f"metadata.labels[{key}]: {value!r} is no value of a label"
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        if not is_qualified(key.lower()):
            yield f"metadata.annotations: {key!r} is no key of an annotation"
    if sum(len(key) + len(str(value).encode()) for key, value in annotations.items()) > (
        MOST_ANNOTATIONS
    ):
        yield f"metadata.annotations: more than {MOST_ANNOTATIONS} bytes in all"


def workload_rules(manifest: Manifest) -> Iterator[str]:
    """Deployments and StatefulSets."""
    spec = manifest.get("spec") or {}
    template = spec.get("template") or {}
    claims = [
        str((claim.get("metadata") or {}).get("name"))
        for claim in spec.get("volumeClaimTemplates") or []
    ]
    yield from template_rules(template, ("Always",), claims)
    if (spec.get("replicas") or 0) < 0:
        yield "spec.replicas: must not be negative"
    chosen = (spec.get("selector") or {}).get("matchLabels") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not chosen and not (spec.get("selector") or {}).get("matchExpressions"):
        yield "spec.selector: is required"
    for key, value in chosen.items():
        if labels.get(key) != value:
            yield f"spec.selector: the template's labels lack {key}={value}"
    strategy = spec.get("strategy") or {}
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") == "Recreate" and rolling is not None:
        yield "spec.strategy.rollingUpdate: is not for type Recreate"
    if rolling is not None and all(
        str(rolling.get(name, "25%")).rstrip("%") == "0" for name in ("maxSurge", "maxUnavailable")
    ):
        yield "spec.strategy.rollingUpdate: maxSurge and maxUnavailable can't both be 0"


def service_rules(manifest: Manifest) -> Iterator[str]:
    """Services."""
    name = str((manifest.get("metadata") or {}).get("name", ""))
    spec = manifest.get("spec") or {}
    if not is_service_name(name):
        yield f"metadata.name: {name!r} must begin with a letter and have at most 63 characters"
    ports = spec.get("ports") or []
    if not ports and spec.get("clusterIP") != "None" and spec.get("type") != "ExternalName":
        yield "spec.ports: at least one is required"
    if len(ports) > 1 and len({port.get("name") for port in ports} - {None}) != len(ports):
        yield "spec.ports: several ports need a name each"


def budget_rules(manifest: Manifest) -> Iterator[str]:
    """PodDisruptionBudgets."""
    spec = manifest.get("spec") or {}
    if ("minAvailable" in spec) and ("maxUnavailable" in spec):
        yield "spec: minAvailable and maxUnavailable exclude each other"
    for name in ("minAvailable", "maxUnavailable"):
        value = spec.get(name, 0)
        if isinstance(value, int) and value < 0:
            yield f"spec.{name}: must not be negative"
        if isinstance(value, str) and not re.fullmatch(r"\d{1,2}%|100%", value):
            yield f"spec.{name}: {value!r} is no number and no percentage"
    if spec.get("unhealthyPodEvictionPolicy", "AlwaysAllow") not in (
        "AlwaysAllow",
        "IfHealthyBudget",
    ):
        yield "spec.unhealthyPodEvictionPolicy: is unknown"


def config_map_rules(manifest: Manifest) -> Iterator[str]:
    """ConfigMaps."""
    data = manifest.get("data") or {}
    for key in data:
        if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) or key in (".", ".."):
            yield f"data: {key!r} is no key"
    if sum(len(str(value).encode()) for value in data.values()) > MOST_DATA:
        yield f"data: more than {MOST_DATA} bytes in all; put large files into the image"


def role_binding_rules(manifest: Manifest) -> Iterator[str]:
    """RoleBindings."""
    for subject in manifest.get("subjects") or []:
        if subject.get("kind") == "ServiceAccount" and not subject.get("namespace"):
            yield f"subjects[{subject.get('name')}].namespace: is required"
    if not (manifest.get("roleRef") or {}).get("name"):
        yield "roleRef.name: is required"
