"""What the subcommands do on a cluster: thin, each step told through `say`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainer.deploy import names, rules, schema
from trainer.deploy.api import Cluster
from trainer.deploy.change import Patch, adopted, draining, scaling, submission
from trainer.deploy.plan import Request
from trainer.deploy.render import render
from trainer.deploy.view import View, lines, look, troubles
from trainer.errors import ClusterRefused, ClusterUnreachable, JobError
from trainer.supervision import start_thread

Say = Callable[[str], None]

POLL_SECONDS = 2.0
GONE_SECONDS = 120.0
COMMON_KINDS = ("PodDisruptionBudget", "Service", "ConfigMap")
KINDS = {
    "job": ("Job", *COMMON_KINDS),
    "jobset": ("JobSet", *COMMON_KINDS),
    "spot": ("Job", "Deployment", *COMMON_KINDS, "RoleBinding", "Role", "ServiceAccount"),
}
OWNED_KINDS = ("JobSet", *KINDS["spot"])


def check(manifests: Sequence[Mapping[str, Any]], versions: Sequence[str] = ()) -> list[str]:
    """Everything that is known offline to stand against the manifests; `versions` of Kubernetes
    are those whose schemas are asked."""
    return rules.problems(manifests) + schema.problems(manifests, versions)


def see(cluster: Cluster, name: str) -> View:
    """The job as the cluster has it now."""
    job, jobset, deployment = cluster.get("Job", name), None, None
    if job is None:
        jobset = _if_allowed(lambda: cluster.get("JobSet", name))
    if jobset is None and (job is None or _target(job) == "spot"):
        deployment = _if_allowed(lambda: cluster.get("Deployment", f"{name}-agents"))
    pods = cluster.list("Pod", names.agents_selector(name))
    return look(name, deployment or job or jobset, job or jobset, pods)


def submit(
    cluster: Cluster,
    request: Request,
    *,
    fresh: str,
    replace: bool = False,
    force: bool = False,
    dry_run: bool = False,
    say: Say,
) -> list[dict[str, Any]]:
    """Create or update everything of the job; what the server answered, in order.

    Raises:
        JobError: the job can't run there, or one of its name stands in the way.
        ClusterError: the server does not do it.
    """
    wanted = request.run_id or request.job.run.id
    view = see(cluster, request.job.name)
    decided = submission(view, wanted, fresh, replace=replace)
    manifests = render(
        Request(
            job=request.job,
            target=request.target,
            namespace=cluster.namespace,
            run_id=decided.run_id,
            files=request.files,
        )
    )
    found = check(manifests)
    if found:
        raise JobError("\n".join(found))
    if decided.remove_first and not dry_run:
        delete(cluster, request.job.name, say=say)
        _wait_until_gone(cluster, request.job.name)
    answers = []
    for manifest in manifests:
        answer = cluster.apply(manifest, force=force, dry_run=dry_run)
        say(f"{manifest['kind']}/{manifest['metadata']['name']} {_what_happened(answer)}")
        answers.append(answer)
    if not dry_run:
        # The handle comes last, because its pods need the rest; now the rest can go with it.
        for manifest in manifests[:-1]:
            cluster.apply(adopted(manifest, answers[-1]), force=force)
    return answers


def follow(
    cluster: Cluster,
    name: str,
    *,
    patience: float,
    say: Say,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> View:
    """Watch the start until enough nodes are in the first generation, it ends, or time is over."""
    shown: set[str] = set()
    end = clock() + patience
    while True:
        view = see(cluster, name)
        state = f"{name} {view.state}" + (f": {view.reason}" if view.reason else "")
        for line in [state, *troubles(view)]:
            if line not in shown:
                shown.add(line)
                say(line)
        if view.state != "starting" and view.state != "suspended":
            return view
        if clock() >= end:
            return view
        sleep(POLL_SECONDS)


def status(cluster: Cluster, name: str, *, say: Say) -> View:
    """Show the job."""
    view = see(cluster, name)
    for line in lines(view):
        say(line)
    return view


def scale(cluster: Cluster, name: str, nodes: int, *, say: Say) -> None:
    """Ask for a number of nodes. Raises JobError, ClusterError."""
    _send(cluster, scaling(see(cluster, name), nodes))
    say(f"{name} scaled to {nodes} nodes")


def drain(cluster: Cluster, name: str, node: str | None, *, say: Say) -> None:
    """Have one node leave, or all of them. Raises JobError, ClusterError."""
    view = see(cluster, name)
    if node is None:
        _send(cluster, draining(view))
        say(f"{name} drained; `remesh scale {name} --nodes {view.wanted}` brings it back")
        return
    if node not in {pod.name for pod in view.pods if pod.live}:
        live = ", ".join(pod.name for pod in view.pods if pod.live) or "none"
        raise JobError(f"{name} has no node {node}; it has {live}")
    cluster.evict(node)
    say(f"{node} was told to leave")


def delete(cluster: Cluster, name: str, *, say: Say) -> int:
    """Remove everything of the job; how many objects there were."""
    gone = 0
    for kind in KINDS.get(see(cluster, name).target, OWNED_KINDS):
        for one in cluster.list(kind, names.selector(name)):
            if cluster.delete(kind, one["metadata"]["name"]):
                say(f"{kind}/{one['metadata']['name']} deleted")
                gone += 1
    return gone


def logs(
    cluster: Cluster,
    name: str,
    *,
    node: str | None = None,
    follow: bool = False,
    tail: int | None = None,
    say: Say,
) -> None:
    """The agents' output, each line behind its pod's name. Raises JobError, ClusterError."""
    view = see(cluster, name)
    pods = [pod.name for pod in view.pods if node is None or pod.name == node]
    if not pods:
        raise JobError(f"{name} has no {'pods' if node is None else f'node {node}'} here")
    failures: list[Exception] = []

    def copy(pod: str) -> None:
        try:
            for line in cluster.logs(pod, follow=follow, tail=tail):
                say(f"[{pod}] {line}" if len(pods) > 1 else line)
        except ClusterUnreachable as error:
            failures.append(error)

    if not follow:
        for pod in pods:
            copy(pod)
    else:
        threads = [
            start_thread(copy, pod, name=f"logs of {pod}", failed=failures.append) for pod in pods
        ]
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def _target(handle: Mapping[str, Any]) -> str:
    return str((handle["metadata"].get("annotations") or {}).get(names.TARGET, ""))


def _if_allowed(ask: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Who may not see a kind has none of it: nobody needs rights for targets not used."""
    try:
        return ask()
    except ClusterRefused:
        return None


def _send(cluster: Cluster, patch: Patch) -> None:
    cluster.merge(patch.kind, patch.name, patch.body, patch.subresource)


def _wait_until_gone(cluster: Cluster, name: str) -> None:
    end = time.monotonic() + GONE_SECONDS
    while see(cluster, name).state != "missing":
        if time.monotonic() > end:
            raise ClusterUnreachable(f"{name} is still being deleted after {GONE_SECONDS:g} s")
        time.sleep(POLL_SECONDS / 4)


def _what_happened(answer: Mapping[str, Any]) -> str:
    metadata = answer.get("metadata") or {}
    if metadata.get("generation", 1) > 1:
        return "updated"
    return "applied" if metadata.get("resourceVersion") else "would be applied"
