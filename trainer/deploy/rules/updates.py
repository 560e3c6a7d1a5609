"""What a server lets nobody change once an object is there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

JOB_FIXED = (
    "completionMode", "podFailurePolicy", "successPolicy", "backoffLimitPerIndex", "selector",
    "managedBy",
)  # fmt: skip
JOBSET_FIXED = ("network", "successPolicy", "failurePolicy", "startupPolicy", "managedBy")


def update_rules(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Rules of an update from `old` to `new`, both whole objects of one kind."""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    match new.get("kind"):
        case "Job":
            yield from _job(before, after)
        case "JobSet":
            yield from _fixed(before, after, JOBSET_FIXED)
            if before.get("replicatedJobs") != after.get("replicatedJobs"):
                yield "spec.replicatedJobs: can't be changed; delete the JobSet first"
        case "Deployment":
            yield from _fixed(before, after, ("selector",))
        case "StatefulSet":
            yield from _fixed(
                before, after, ("selector", "serviceName", "volumeClaimTemplates",
                                "podManagementPolicy"),
            )  # fmt: skip
        case "RoleBinding" if old.get("roleRef") != new.get("roleRef"):
            yield "roleRef: can't be changed"


def _job(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    yield from _fixed(before, after, JOB_FIXED)
    if before.get("template") != after.get("template") and not before.get("suspend"):
        yield "spec.template: can't be changed while the Job is not suspended"
    if before.get("completions") != after.get("completions"):
        if after.get("completionMode") != "Indexed":
            yield "spec.completions: can't be changed"
        elif after.get("completions") != after.get("parallelism"):
            yield "spec.completions: changes only together with parallelism, to the same number"


def _fixed(
    before: Mapping[str, Any], after: Mapping[str, Any], fields: tuple[str, ...]
) -> Iterator[str]:
    for field in fields:
        if before.get(field) != after.get(field):
            yield f"spec.{field}: can't be changed"
