"""What a real API server refuses although every field has its type. Pure, offline.

Schemas (`trainer.deploy.schema`) know fields and types; these rules are the rest, as far as what
we render can meet them. Each complaint begins with the object and the field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from trainer.deploy.rules.jobs import job_rules
from trainer.deploy.rules.jobsets import jobset_rules
from trainer.deploy.rules.objects import (
    budget_rules,
    config_map_rules,
    metadata_rules,
    role_binding_rules,
    service_rules,
    workload_rules,
)
from trainer.deploy.rules.updates import update_rules

Rule = Callable[[Mapping[str, Any]], Iterator[str]]

RULES: Mapping[str, tuple[Rule, ...]] = {
    "Job": (job_rules,),
    "JobSet": (jobset_rules,),
    "Deployment": (workload_rules,),
    "StatefulSet": (workload_rules,),
    "Service": (service_rules,),
    "PodDisruptionBudget": (budget_rules,),
    "ConfigMap": (config_map_rules,),
    "RoleBinding": (role_binding_rules,),
}

__all__ = ["RULES", "problems", "update_problems"]


def problems(manifests: Iterable[Mapping[str, Any]]) -> list[str]:
    """Everything a server would refuse, one line each; empty when nothing is known to be wrong."""
    found: list[str] = []
    for manifest in manifests:
        kind = str(manifest.get("kind", "?"))
        where = f"{kind}/{(manifest.get('metadata') or {}).get('name', '?')}"
        for rule in (metadata_rules, *RULES.get(kind, ())):
            found += [f"{where}: {text}" for text in rule(manifest)]
    return found


def update_problems(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Why `new` can't take the place of `old`, one line each."""
    where = f"{new.get('kind', '?')}/{(new.get('metadata') or {}).get('name', '?')}"
    return [f"{where}: {text}" for text in update_rules(old, new)]
