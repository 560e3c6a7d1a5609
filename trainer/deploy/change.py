"""What to send to a server for a wish: submit, scale, drain. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.deploy.view import View
from trainer.errors import JobError


@dataclass(frozen=True, slots=True)
class Patch:
    """A merge patch over one object, or over its subresource."""

    kind: str
    name: str
    body: Mapping[str, Any]
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """How to submit: under which run id, and whether an earlier job has to go first."""

    run_id: str
    remove_first: bool


def submission(view: View, wanted: str | None, fresh: str, *, replace: bool) -> Submission:
    """`wanted`: the run id that was asked for; `fresh`: the one to take when none was.

    Raises:
        JobError: a job of that name is there and this one may not take its place.
    """
    if view.state == "missing":
        return Submission(wanted or fresh, remove_first=False)
    if replace:
        return Submission(wanted or fresh, remove_first=True)
    if view.over:
        raise JobError(
            f"{view.name} has {view.state} as run {view.run_id}; `remesh delete {view.name}` "
            "first, or submit with --replace"
        )
    if wanted is not None and wanted != view.run_id:
        raise JobError(
            f"{view.name} is {view.state} as run {view.run_id}, not {wanted}; delete it first, "
            "give the job another name, or submit with --replace"
        )
    return Submission(view.run_id, remove_first=False)


def scaling(view: View, nodes: int) -> Patch:
    """Bring the job to a number of nodes, and a drained one back.

    Raises:
        JobError: the job can't have so many nodes, or can't be scaled.
    """
    _must_be_alive(view)
    if view.target == "jobset":
        if view.state == "suspended" and nodes == view.wanted:
            return Patch("JobSet", view.name, {"spec": {"suspend": False}})
        raise JobError(
            "a JobSet's Jobs can't be resized; submit the job with target job or spot, or delete "
            "it and submit it with other elastic.nodes"
        )
    if not view.minimum <= nodes <= view.maximum:
        raise JobError(
            f"{view.name} runs on {view.minimum} to {view.maximum} nodes, not {nodes}"
            + ("; `remesh drain` takes all of them" if nodes == 0 else "")
        )
    if view.target == "spot":
        return Patch("Deployment", f"{view.name}-agents", {"spec": {"replicas": nodes}}, "scale")
    # The server refuses more failed indexes than completions, so that number moves with them.
    return Patch(
        "Job",
        view.name,
        {
            "spec": {
                "suspend": False,
                "parallelism": nodes,
                "completions": nodes,
                "maxFailedIndexes": nodes - view.minimum,
            }
        },
    )


def draining(view: View) -> Patch:
    """Have every node save and leave; `scaling` brings the job back.

    Raises:
        JobError: there is nothing to drain.
    """
    _must_be_alive(view)
    if view.target == "spot":
        return Patch("Deployment", f"{view.name}-agents", {"spec": {"replicas": 0}}, "scale")
    kind = "JobSet" if view.target == "jobset" else "Job"
    return Patch(kind, view.name, {"spec": {"suspend": True}})


def owner_reference(handle: Mapping[str, Any]) -> dict[str, Any]:
    """What makes another object go when the handle goes."""
    return {
        "apiVersion": handle["apiVersion"],
        "kind": handle["kind"],
        "name": handle["metadata"]["name"],
        "uid": handle["metadata"]["uid"],
    }


def adopted(manifest: Mapping[str, Any], handle: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest, owned by the handle."""
    metadata = {**manifest["metadata"], "ownerReferences": [owner_reference(handle)]}
    return {**manifest, "metadata": metadata}


def _must_be_alive(view: View) -> None:
    if view.state == "missing":
        raise JobError(f"there is no job {view.name} in this namespace")
    if view.over:
        raise JobError(f"{view.name} has {view.state}: {view.reason}")
