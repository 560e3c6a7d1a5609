"""JobSet (jobset.x-k8s.io/v1alpha2): its fields, written down here because CI has no CRD, and its
rules. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trainer.deploy.rules.jobs import hostname_rules, job_spec_rules
from trainer.deploy.rules.words import is_label, is_service_name

API_VERSION = "jobset.x-k8s.io/v1alpha2"
ACTIONS = (
    "FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts", "RestartJob",
    "RestartJobAndIgnoreMaxRestarts",
)  # fmt: skip
REASONS = (
    "BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded",
    "PodFailurePolicy",
)  # fmt: skip
MOST_DEPENDENCIES = 5

_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_NAMES = {"type": "array", "items": _TEXT}


def _closed(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


SCHEMA: Mapping[str, Any] = _closed(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": API_VERSION},
    kind={"const": "JobSet"},
    metadata={"type": "object"},
    spec=_closed(
        replicatedJobs={
            "type": "array",
            "items": _closed(
                ("name", "template"),
                name=_TEXT,
                groupName=_TEXT,
                replicas=_COUNT,
                template=_closed(("spec",), metadata={"type": "object"}, spec={"type": "object"}),
                dependsOn={
                    "type": "array",
                    "maxItems": MOST_DEPENDENCIES,
                    "items": _closed(
                        ("name", "status"), name=_TEXT, status={"enum": ["Ready", "Complete"]}
                    ),
                },
            ),
        },
        network=_closed(enableDNSHostnames=_FLAG, subdomain=_TEXT, publishNotReadyAddresses=_FLAG),
        successPolicy=_closed(
            ("operator",), operator={"enum": ["All", "Any"]}, targetReplicatedJobs=_NAMES
        ),
        failurePolicy=_closed(
            maxRestarts=_COUNT,
            restartStrategy={"enum": ["Recreate", "BlockingRecreate", "InPlaceRestart"]},
            rules={
                "type": "array",
                "items": _closed(
                    ("name", "action"),
                    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
                    action={"enum": list(ACTIONS)},
                    onJobFailureReasons={
                        "type": "array",
                        "uniqueItems": True,
                        "items": {"enum": list(REASONS)},
                    },
                    onJobFailureMessagePatterns={**_NAMES, "uniqueItems": True},
                    targetReplicatedJobs=_NAMES,
                ),
            },
        ),
        startupPolicy=_closed(
            ("startupPolicyOrder",), startupPolicyOrder={"enum": ["AnyOrder", "InOrder"]}
        ),
        coordinator=_closed(
            ("replicatedJob",), replicatedJob=_TEXT, jobIndex=_COUNT, podIndex=_COUNT
        ),
        suspend=_FLAG,
        managedBy=_TEXT,
        ttlSecondsAfterFinished=_COUNT,
    ),
)


def jobset_rules(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Fields, then what the JobSet webhook asks beyond them."""
    missed = list(_fields(manifest, SCHEMA, ""))
    yield from missed
    if missed:
        return
    name, spec = manifest["metadata"].get("name", ""), manifest["spec"]
    jobs = spec.get("replicatedJobs") or []
    known = [job["name"] for job in jobs]
    if len(set(known)) != len(known):
        yield "spec.replicatedJobs: a name is there twice"
    network = spec.get("network") or {}
    subdomain = network.get("subdomain", name)
    if network.get("enableDNSHostnames", True) and not is_service_name(subdomain):
        yield f"spec.network.subdomain: {subdomain!r} names a Service and must begin with a letter"
    for index, job in enumerate(jobs):
        where = f"spec.replicatedJobs[{job['name']}]"
        last = f"{name}-{job['name']}-{max(0, job.get('replicas', 1) - 1)}"
        if not is_label(last):
            yield f"{where}: its Job's name {last} would be longer than 63 characters"
        for text in hostname_rules(last, job["template"]["spec"]):
            yield f"{where}: {text}"
        for text in job_spec_rules(job["template"]["spec"]):
            yield f"{where}.template.{text}"
        for dependency in job.get("dependsOn") or []:
            if dependency["name"] not in known[:index]:
                yield f"{where}.dependsOn: {dependency['name']!r} is not listed before it"
    order = (spec.get("startupPolicy") or {}).get("startupPolicyOrder")
    if order == "InOrder" and any(job.get("dependsOn") for job in jobs):
        yield "spec.startupPolicy: InOrder and dependsOn exclude each other"
    for where, policy in _targets(spec):
        for target in policy.get("targetReplicatedJobs") or []:
            if target not in known:
                yield f"{where}.targetReplicatedJobs: there is no replicated job {target!r}"


def _targets(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "spec.successPolicy", spec.get("successPolicy") or {}
    for index, rule in enumerate((spec.get("failurePolicy") or {}).get("rules") or []):
        yield f"spec.failurePolicy.rules[{index}]", rule


def _fields(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """The part of JSON Schema that `SCHEMA` uses."""
    where = path or "the object"
    if "const" in schema and value != schema["const"]:
        yield f"{where}: must be {schema['const']}, not {value!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is not one of {', '.join(schema['enum'])}"
    kinds = {"object": Mapping, "array": list, "string": str, "boolean": bool, "integer": int}
    kind = kinds.get(schema.get("type", ""))
    if kind is not None and (
        not isinstance(value, kind) or (kind is int and isinstance(value, bool))
    ):
        yield f"{where}: must be of type {schema['type']}, not {type(value).__name__}"
        return
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{where}: {value!r} does not match {schema['pattern']}"
    if "minimum" in schema and not schema["minimum"] <= value <= schema["maximum"]:
        yield f"{where}: {value} is not within {schema['minimum']} … {schema['maximum']}"
    if isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            yield f"{where}: at most {schema['maxItems']} items"
        if schema.get("uniqueItems") and len(set(value)) != len(value):
            yield f"{where}: an item is there twice"
        for index, item in enumerate(value):
            yield from _fields(item, schema["items"], f"{path}[{index}]")
    if isinstance(value, Mapping) and "properties" in schema:
        known = schema["properties"]
        for key in schema["required"]:
            if key not in value:
                yield f"{where}: {key} is required"
        for key, item in value.items():
            inner = f"{path}.{key}" if path else str(key)
            if key not in known:
                yield f"{inner}: unknown field"
            else:
                yield from _fields(item, known[key], inner)
