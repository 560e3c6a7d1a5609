"""Rules of batch/v1 Jobs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainer.deploy.rules.pods import template_rules
from trainer.deploy.rules.words import is_label

Spec = Mapping[str, Any]

MOST_RULES = 20
MOST_CODES = 255
MOST_INDEXES = 100_000
MOST_AT_ONCE = 10_000


def job_rules(job: Mapping[str, Any]) -> Iterator[str]:
    """Rules of a whole Job."""
    name = str((job.get("metadata") or {}).get("name", ""))
    spec = job.get("spec") or {}
    if not is_label(name):
        yield f"metadata.name: {name!r} is no DNS label of at most 63 characters"
    yield from hostname_rules(name, spec)
    yield from job_spec_rules(spec)


def hostname_rules(name: str, spec: Spec) -> Iterator[str]:
    """An Indexed Job's pods have the Job's name and their index as hostname."""
    if spec.get("completionMode") == "Indexed":
        last = f"{name}-{max(0, (spec.get('completions') or 1) - 1)}"
        if not is_label(last):
            yield f"metadata.name: the pod's hostname {last} would be longer than 63 characters"


def job_spec_rules(spec: Spec) -> Iterator[str]:
    """Rules of a Job's spec, also of the one inside a JobSet."""
    for name in (
        "parallelism", "completions", "backoffLimit", "backoffLimitPerIndex", "maxFailedIndexes",
        "activeDeadlineSeconds", "ttlSecondsAfterFinished",
    ):  # fmt: skip
        if (spec.get(name) or 0) < 0:
            yield f"spec.{name}: must not be negative"
    if "selector" in spec and not spec.get("manualSelector"):
        yield "spec.selector: is made by the server"
    failing = spec.get("podFailurePolicy")
    restart = ("Never",) if failing is not None else ("Never", "OnFailure")
    if "backoffLimitPerIndex" in spec:
        restart = ("Never",)
    yield from template_rules(spec.get("template") or {}, restart)
    yield from _indexes(spec)
    if failing is not None:
        yield from _failing(failing, spec)
    replacing = spec.get("podReplacementPolicy")
    if replacing not in (None, "Failed", "TerminatingOrFailed"):
        yield f"spec.podReplacementPolicy: {replacing} is unknown"
    if failing is not None and replacing not in (None, "Failed"):
        yield "spec.podReplacementPolicy: must be Failed where there is a podFailurePolicy"
    yield from _succeeding(spec)


def _indexes(spec: Spec) -> Iterator[str]:
    mode = spec.get("completionMode", "NonIndexed")
    completions, at_once = spec.get("completions"), spec.get("parallelism", 1)
    if mode not in ("Indexed", "NonIndexed"):
        yield f"spec.completionMode: {mode} is unknown"
    if mode == "Indexed":
        if completions is None:
            yield "spec.completions: is required by completionMode Indexed"
        elif at_once > MOST_INDEXES:
            yield f"spec.parallelism: must be at most {MOST_INDEXES}"
        if "backoffLimitPerIndex" in spec and (completions or 0) > MOST_INDEXES:
            if spec.get("maxFailedIndexes") is None:
                yield f"spec.maxFailedIndexes: is required above {MOST_INDEXES} completions"
            if at_once > MOST_AT_ONCE:
                yield f"spec.parallelism: must be at most {MOST_AT_ONCE} with so many completions"
    elif "backoffLimitPerIndex" in spec:
        yield "spec.backoffLimitPerIndex: needs completionMode Indexed"
    most = spec.get("maxFailedIndexes")
    if most is not None:
        if "backoffLimitPerIndex" not in spec:
            yield "spec.maxFailedIndexes: needs backoffLimitPerIndex"
        if most > (completions or 0):
            yield f"spec.maxFailedIndexes: {most} is more than the {completions} completions"


def _failing(policy: Mapping[str, Any], spec: Spec) -> Iterator[str]:
    rules = policy.get("rules") or []
    if len(rules) > MOST_RULES:
        yield f"spec.podFailurePolicy.rules: at most {MOST_RULES}"
    pod = (spec.get("template") or {}).get("spec") or {}
    every = [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]
    containers = {container.get("name") for container in every}
    for index, rule in enumerate(rules):
        where = f"spec.podFailurePolicy.rules[{index}]"
        action = rule.get("action")
        if action not in ("FailJob", "FailIndex", "Ignore", "Count"):
            yield f"{where}.action: {action} is unknown"
        if action == "FailIndex" and "backoffLimitPerIndex" not in spec:
            yield f"{where}.action: FailIndex needs backoffLimitPerIndex"
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if (codes is None) == (not conditions):
            yield f"{where}: needs exactly one of onExitCodes and onPodConditions"
        if codes is not None:
            yield from _codes(codes, containers, f"{where}.onExitCodes")
        for condition in conditions or []:
            if condition.get("status", "True") not in ("True", "False", "Unknown"):
                yield f"{where}.onPodConditions: status {condition['status']!r} is unknown"
            if not condition.get("type"):
                yield f"{where}.onPodConditions: a type is required"


def _codes(codes: Mapping[str, Any], containers: set[Any], where: str) -> Iterator[str]:
    values = codes.get("values") or []
    name = codes.get("containerName")
    if name is not None and name not in containers:
        yield f"{where}.containerName: there is no container {name!r}"
    if codes.get("operator") not in ("In", "NotIn"):
        yield f"{where}.operator: {codes.get('operator')} is unknown"
    if not 0 < len(values) <= MOST_CODES:
        yield f"{where}.values: 1 to {MOST_CODES} are required"
    if list(values) != sorted(set(values)):
        yield f"{where}.values: must be ordered, each once"
    if codes.get("operator") == "In" and 0 in values:
        yield f"{where}.values: 0 is no failure"


def _succeeding(spec: Spec) -> Iterator[str]:
    policy = spec.get("successPolicy")
    if policy is None:
        return
    if spec.get("completionMode") != "Indexed":
        yield "spec.successPolicy: needs completionMode Indexed"
    rules = policy.get("rules") or []
    if not 0 < len(rules) <= MOST_RULES:
        yield f"spec.successPolicy.rules: 1 to {MOST_RULES} are required"
    for index, rule in enumerate(rules):
        where = f"spec.successPolicy.rules[{index}]"
        count = rule.get("succeededCount")
        if count is None and rule.get("succeededIndexes") is None:
            yield f"{where}: needs succeededCount or succeededIndexes"
        if count is not None and not 0 < count <= (spec.get("completions") or 0):
            yield f"{where}.succeededCount: {count} is not within 1 … completions"
