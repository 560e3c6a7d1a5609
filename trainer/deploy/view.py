"""What a job's objects on a cluster say of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.deploy import names

Object = Mapping[str, Any]

HANDLES = {"job": "Job", "spot": "Deployment", "jobset": "JobSet"}
EXIT_WORDS = {
    0: "done",
    1: "failed",
    2: "wrong job or usage",
    75: "left with notice",
    137: "killed",
    143: "terminated",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """One agent's pod. `trouble` says why it does not run, or how it ended."""

    name: str
    phase: str
    ready: bool
    machine: str
    index: str
    restarts: int
    trouble: str

    @property
    def live(self) -> bool:
        return self.phase in ("Pending", "Running", "Leaving")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A job as a whole. `state`: missing, suspended, starting, running, completed or failed."""

    name: str
    target: str
    run_id: str
    state: str
    reason: str
    minimum: int
    maximum: int
    wanted: int
    pods: Sequence[PodView] = field(default_factory=tuple)

    @property
    def ready(self) -> int:
        return sum(pod.ready for pod in self.pods)

    @property
    def over(self) -> bool:
        return self.state in ("completed", "failed", "missing")


def look(name: str, holder: Object | None, handle: Object | None, pods: Sequence[Object]) -> View:
    """`holder` holds the agents; `handle` is what one waits for, the same object but for spot."""
    views = sorted((_pod(pod) for pod in pods), key=lambda view: view.name)
    top = handle or holder
    if top is None:
        return View(
            name=name, target="", run_id="", state="missing", reason="no such job here",
            minimum=0, maximum=0, wanted=0, pods=views,
        )  # fmt: skip
    annotations = top["metadata"].get("annotations") or {}
    low, _, high = annotations.get(names.NODES, "1").partition(":")
    wanted = _wanted(holder)
    state, reason = _state(top, holder, views, int(low), wanted)
    return View(
        name=name,
        target=annotations.get(names.TARGET, "job"),
        run_id=annotations.get(names.RUN_ID, ""),
        state=state,
        reason=reason,
        minimum=int(low),
        maximum=int(high or low),
        wanted=wanted,
        pods=views,
    )


def lines(view: View) -> list[str]:
    """For a person."""
    head = f"{view.name}  {view.state}"
    shown = [head + (f": {view.reason}" if view.reason else "")]
    if view.state == "missing":
        return shown
    shown.append(
        f"run {view.run_id}  target {view.target}  nodes {view.ready} ready of {view.wanted} "
        f"wanted (from {view.minimum} to {view.maximum})"
    )
    width = max((len(pod.name) for pod in view.pods), default=0)
    for pod in view.pods:
        words = [f"  {pod.name:<{width}}", f"{pod.phase:<9}", "ready" if pod.ready else "     "]
        words += [pod.machine or "-", pod.trouble]
        shown.append("  ".join(word for word in words if word).rstrip())
    return shown


def troubles(view: View) -> list[str]:
    """What keeps pods from running, one line for each different trouble."""
    found: dict[str, list[str]] = {}
    for pod in view.pods:
        if pod.trouble and not pod.ready and pod.phase != "Leaving":
            found.setdefault(pod.trouble, []).append(pod.name)
    return [
        f"{pods[0]}{f' and {len(pods) - 1} more' if len(pods) > 1 else ''}: {text}"
        for text, pods in found.items()
    ]


def _wanted(holder: Object | None) -> int:
    if holder is None:
        return 0
    spec = holder.get("spec") or {}
    if holder.get("kind") == "Deployment":
        return int(spec.get("replicas", 1))
    if holder.get("kind") == "JobSet":
        agents = next((job for job in spec["replicatedJobs"] if job["name"] == "agents"), None)
        spec = agents["template"]["spec"] if agents is not None else {}
    return int(spec.get("parallelism", 1))


def _state(
    top: Object, holder: Object | None, pods: Sequence[PodView], low: int, wanted: int
) -> tuple[str, str]:
    for condition in (top.get("status") or {}).get("conditions") or []:
        if condition.get("status") != "True":
            continue
        text = ": ".join(
            part for part in (condition.get("reason"), condition.get("message")) if part
        )
        if condition.get("type") in ("Complete", "Completed"):
            return "completed", text
        if condition.get("type") == "Failed":
            return "failed", text
    suspended = (top.get("spec") or {}).get("suspend")
    if suspended or (holder is not None and wanted == 0):
        queue = (top["metadata"].get("labels") or {}).get(names.QUEUE)
        return "suspended", f"waits in the queue {queue}" if suspended and queue else ""
    ready = sum(pod.ready for pod in pods)
    if ready >= low:
        return "running", ""
    return "starting", f"{ready} of at least {low} nodes ready"


def _pod(pod: Object) -> PodView:
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    containers = status.get("containerStatuses") or []
    phase = status.get("phase", "Pending")
    if metadata.get("deletionTimestamp") is not None and phase in ("Pending", "Running"):
        phase = "Leaving"
    conditions = status.get("conditions") or []
    return PodView(
        name=metadata["name"],
        phase=phase,
        ready=phase == "Running"
        and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions),
        machine=spec.get("nodeName", ""),
        index=(metadata.get("annotations") or {}).get(names.COMPLETION_INDEX, ""),
        restarts=sum(one.get("restartCount", 0) for one in containers),
        trouble=_trouble(conditions, containers),
    )


def _trouble(conditions: Sequence[Object], containers: Sequence[Object]) -> str:
    for one in conditions:
        if one["type"] == "DisruptionTarget" and one["status"] == "True":
            return f"disrupted ({one.get('reason', 'no reason given')})"
    for container in containers:
        state = container.get("state") or {}
        waiting, ended = state.get("waiting"), state.get("terminated")
        if waiting is not None and waiting.get("reason") not in (None, "ContainerCreating"):
            last = (container.get("lastState") or {}).get("terminated")
            how = f"; last {_ending(last)}" if last else ""
            message = waiting.get("message", "")
            return f"{waiting['reason']}{f': {message}' if message else ''}{how}"
        if ended is not None:
            return _ending(ended)
    for one in conditions:
        if one["type"] == "PodScheduled" and one["status"] == "False":
            return f"{one.get('reason', 'not scheduled')}: {one.get('message', '')}".rstrip(": ")
    return ""


def _ending(ended: Object) -> str:
    code = ended.get("exitCode", 0)
    if ended.get("reason") == "OOMKilled":
        return f"exit code {code}: out of memory"
    word = EXIT_WORDS.get(code)
    return f"exit code {code}{f': {word}' if word else ''}"
