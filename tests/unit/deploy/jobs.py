"""Jobs as the tests of this folder need them."""

from __future__ import annotations

from typing import Any

from trainer.job import Job, from_mapping

RUNS = {"name": "runs", "mount": "/var/lib/remesh", "claim": "remesh-runs"}


def make_job(kubernetes: dict[str, Any] | None = None, **sections: Any) -> Job:
    """A small training job, two to four nodes, its runs on a claim unless told otherwise."""
    data: dict[str, Any] = {
        "name": "demo",
        "model": {"preset": "debug"},
        "elastic": {"nodes": "2:4"},
        "kubernetes": {"volumes": [RUNS], **(kubernetes or {})},
    }
    data.update(sections)
    return from_mapping(data)


def by_kind(manifests: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    """The one object of a kind."""
    found = [
        one
        for one in manifests
        if one["kind"] == kind and (name is None or one["metadata"]["name"] == name)
    ]
    assert len(found) == 1, [one["metadata"]["name"] for one in found]
    return found[0]


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The spec of its agents' pods."""
    spec = manifest["spec"]
    if manifest["kind"] == "JobSet":
        spec = next(job for job in spec["replicatedJobs"] if job["name"] == "agents")
        spec = spec["template"]["spec"]
    return spec["template"]["spec"]


def handle(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """What holds the agents."""
    kinds = ("Deployment", "JobSet", "Job")
    return next(one for kind in kinds for one in manifests if one["kind"] == kind)
