"""Rules of a pod template. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from trainer.deploy import quantity
from trainer.deploy.rules.words import is_label, is_label_value, is_qualified

Pod = Mapping[str, Any]

FIELDS = {
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
    "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
}  # fmt: skip
FIELD_MAPS = re.compile(r"metadata\.(labels|annotations)\['[^']+'\]")
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
NATIVE = ("cpu", "memory", "ephemeral-storage", "storage")


def template_rules(
    template: Pod, restart: Sequence[str], claims: Sequence[str] = ()
) -> Iterator[str]:
    """Rules of `spec.template`. `restart` holds the restart policies its owner allows, `claims`
    the names of volumes that the owner adds."""
    labels = (template.get("metadata") or {}).get("labels") or {}
    for key, value in labels.items():
        if not is_qualified(key) or not is_label_value(str(value)):
            yield f"spec.template.metadata.labels: {key}={value} is no label"
    spec = template.get("spec") or {}
    policy = spec.get("restartPolicy", "Always")
    if policy not in restart:
        yield f"spec.template.spec.restartPolicy: {policy} is not one of {', '.join(restart)}"
    for text in pod_rules(spec, claims):
        yield f"spec.template.spec.{text}"


def pod_rules(spec: Pod, claims: Sequence[str] = ()) -> Iterator[str]:
    """Rules of a pod's spec; `claims` are volumes beside its own."""
    containers = spec.get("containers") or []
    if not containers:
        yield "containers: at least one is required"
    volumes = [str(volume.get("name")) for volume in spec.get("volumes") or []]
    yield from _doubled("volumes", volumes)
    for volume in spec.get("volumes") or []:
        name, sources = volume.get("name", ""), volume.keys() - {"name"}
        if not is_label(str(name)):
            yield f"volumes: {name!r} is no DNS label"
        if len(sources) != 1:
            yield f"volumes[{name}]: needs exactly one source, has {len(sources)}"
    every = [*(spec.get("initContainers") or []), *containers]
    yield from _doubled("containers", [str(container.get("name")) for container in every])
    for container in every:
        for text in _container(container, [*volumes, *claims]):
            yield f"containers[{container.get('name')}].{text}"
    for index, toleration in enumerate(spec.get("tolerations") or []):
        for text in _toleration(toleration):
            yield f"tolerations[{index}]: {text}"
    for name in ("terminationGracePeriodSeconds", "activeDeadlineSeconds"):
        if (spec.get(name) or 0) < 0:
            yield f"{name}: must not be negative"
    spread = spec.get("topologySpreadConstraints") or []
    yield from _doubled(
        "topologySpreadConstraints",
        [f"{one.get('topologyKey')}, {one.get('whenUnsatisfiable')}" for one in spread],
    )
    for one in spread:
        if one.get("maxSkew", 0) < 1:
            yield "topologySpreadConstraints: maxSkew must be at least 1"
        if one.get("whenUnsatisfiable") not in ("DoNotSchedule", "ScheduleAnyway"):
            yield "topologySpreadConstraints: whenUnsatisfiable is unknown"
    for name in ("hostname", "subdomain"):
        if name in spec and not is_label(spec[name]):
            yield f"{name}: {spec[name]!r} is no DNS label"


def restricted(spec: Pod) -> Iterator[str]:
    """What keeps a pod out of a namespace under the Pod Security Standard `restricted`."""
    outer = spec.get("securityContext") or {}
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name} is set"
    allowed = {
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
        "projected", "secret",
    }  # fmt: skip
    for volume in spec.get("volumes") or []:
        for source in volume.keys() - {"name"} - allowed:
            yield f"volume {volume['name']} is a {source}"
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        name, inner = container.get("name"), container.get("securityContext") or {}
        if inner.get("allowPrivilegeEscalation") is not False:
            yield f"container {name} may gain privileges"
        capabilities = inner.get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or []):
            yield f"container {name} keeps capabilities"
        if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
            yield f"container {name} adds capabilities"
        if inner.get("privileged"):
            yield f"container {name} is privileged"
        if inner.get("runAsNonRoot", outer.get("runAsNonRoot")) is not True:
            yield f"container {name} may run as root"
        if inner.get("runAsUser", outer.get("runAsUser")) == 0:
            yield f"container {name} runs as root"
        profile = inner.get("seccompProfile", outer.get("seccompProfile")) or {}
        if profile.get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"container {name} has no seccomp profile"


def _container(container: Pod, volumes: Sequence[str]) -> Iterator[str]:
    if not is_label(str(container.get("name", ""))):
        yield "name: is no DNS label"
    if not str(container.get("image", "")).strip():
        yield "image: is required"
    if container.get("imagePullPolicy", "Always") not in ("Always", "IfNotPresent", "Never"):
        yield "imagePullPolicy: is unknown"
    for variable in container.get("env") or []:
        yield from _variable(variable)
    mounts = container.get("volumeMounts") or []
    yield from _doubled("volumeMounts", [str(mount.get("mountPath")) for mount in mounts])
    for mount in mounts:
        if mount.get("name") not in volumes:
            yield f"volumeMounts: there is no volume {mount.get('name')!r}"
        if ":" in mount.get("mountPath", ""):
            yield f"volumeMounts: {mount['mountPath']!r} holds a colon"
        sub = mount.get("subPath", "")
        if sub.startswith("/") or ".." in sub.split("/"):
            yield f"volumeMounts: subPath {sub!r} must be relative and without .."
    ports = container.get("ports") or []
    yield from _doubled("ports", [str(port["name"]) for port in ports if "name" in port])
    for port in ports:
        if not 0 < port.get("containerPort", 0) < 65536:
            yield f"ports: {port.get('containerPort')} is no port"
    yield from _resources(container.get("resources") or {})
    for name in PROBES:
        probe = container.get(name)
        if probe is not None:
            if len([handler for handler in HANDLERS if handler in probe]) != 1:
                yield f"{name}: needs exactly one of {', '.join(HANDLERS)}"
            if name != "readinessProbe" and probe.get("successThreshold", 1) != 1:
                yield f"{name}.successThreshold: must be 1"
            for field in ("periodSeconds", "timeoutSeconds", "failureThreshold"):
                if probe.get(field, 1) < 1:
                    yield f"{name}.{field}: must be at least 1"


def _variable(variable: Pod) -> Iterator[str]:
    name = str(variable.get("name", ""))
    if not name or "=" in name or not name.isprintable() or not name.isascii():
        yield f"env: {name!r} is no variable"
    source = variable.get("valueFrom")
    if source is None:
        return
    if variable.get("value"):
        yield f"env[{name}]: has a value and a valueFrom"
    if len(source) != 1:
        yield f"env[{name}].valueFrom: needs exactly one source"
    path = (source.get("fieldRef") or {}).get("fieldPath")
    if path is not None and path not in FIELDS and not FIELD_MAPS.fullmatch(path):
        yield f"env[{name}].valueFrom.fieldRef: {path} is not to be had"


def _resources(resources: Pod) -> Iterator[str]:
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    numbers: dict[tuple[str, str], Decimal] = {}
    for kind, listed in (("requests", requests), ("limits", limits)):
        for name, text in listed.items():
            try:
                numbers[kind, name] = quantity.value(str(text))
            except ValueError as error:
                yield f"resources.{kind}.{name}: {error}"
    for name in sorted({name for _, name in numbers}):
        asked, most = numbers.get(("requests", name)), numbers.get(("limits", name))
        if asked is not None and most is not None and asked > most:
            yield f"resources.requests.{name}: is more than its limit"
        if name in NATIVE or name.startswith("hugepages-"):
            continue
        if "/" not in name:
            yield f"resources.{name}: is neither a standard resource nor a qualified name"
        if most is None or (asked is not None and asked != most):
            yield f"resources.{name}: must have a limit, equal to the request"
        elif most != int(most):
            yield f"resources.{name}: must be a whole number"


def _toleration(toleration: Pod) -> Iterator[str]:
    operator = toleration.get("operator", "Equal")
    if not toleration.get("key") and operator != "Exists":
        yield "without a key the operator must be Exists"
    if operator == "Exists" and toleration.get("value"):
        yield "with operator Exists there is no value"
    if "tolerationSeconds" in toleration and toleration.get("effect") != "NoExecute":
        yield "tolerationSeconds needs effect NoExecute"


def _doubled(where: str, listed: Sequence[str]) -> Iterator[str]:
    for item in sorted({item for item in listed if listed.count(item) > 1}):
        yield f"{where}: {item!r} is there twice"
