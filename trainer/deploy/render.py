"""From a job to its manifests, in the order in which they are applied. Pure."""

from __future__ import annotations

from typing import Any

import yaml

from trainer.deploy import names, targets
from trainer.deploy.plan import Plan, Request, plan
from trainer.deploy.pod import Manifest
from trainer.job import dump


def render(request: Request) -> list[Manifest]:
    """Every object of the job; the last one is its handle, the one to wait for.

    Raises:
        JobError: the job can't run on a cluster as it is; one line a complaint.
    """
    settled = plan(request)
    made = [_files(settled)]
    if settled.target != "jobset":
        made.append(_service(settled))
    budget = _budget(settled)
    if budget is not None:
        made.append(budget)
    if settled.target == "spot":
        made += [targets.deployment(settled), *targets.coordinator(settled)]
    elif settled.target == "jobset":
        made.append(targets.jobset(settled))
    else:
        made.append(targets.indexed_job(settled))
    return made


def to_yaml(manifests: list[Manifest]) -> str:
    """The manifests as YAML documents, which `kubectl apply -f -` reads."""
    return "".join(
        "---\n" + yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=100)
        for manifest in manifests
    )


def _files(plan: Plan) -> Manifest:
    made = targets.object_of(plan, "v1", "ConfigMap", f"{plan.name}-job")
    made["data"] = {"job.yaml": dump(plan.job), **plan.files}
    return made


def _service(plan: Plan) -> Manifest:
    made = targets.object_of(plan, "v1", "Service", plan.name)
    made["spec"] = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": names.labels(plan.job, names.AGENT),
    }
    return made


def _budget(plan: Plan) -> Manifest | None:
    """A budget that spares the minimum; a job of fixed size lets one node go at a time, or no
    machine under it could ever be emptied. Pods outside a generation may always go."""
    elastic = plan.job.elastic
    least = min(elastic.min_nodes, elastic.max_nodes - 1)
    if least < 1:
        return None
    made = targets.object_of(plan, "policy/v1", "PodDisruptionBudget", plan.name)
    made["spec"] = {
        "minAvailable": least,
        "selector": {"matchLabels": names.labels(plan.job, names.AGENT)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return made


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks, and no anchors, which some readers of manifests refuse."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
