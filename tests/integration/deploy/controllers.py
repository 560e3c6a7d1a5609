"""As much of a cluster's controllers as counts: each brings its pods to what its object wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.integration.deploy.kubelet import Pod
from trainer.deploy import names

if TYPE_CHECKING:
    from tests.integration.deploy.cluster import Cluster

Manifest = Mapping[str, Any]
Key = tuple[str, str]


def judge(spec: Manifest, exit_code: int, *, disrupted: bool) -> str:
    """What a Job's podFailurePolicy makes of a pod's end: FailJob, Ignore, or Count."""
    for rule in spec.get("podFailurePolicy", {}).get("rules", []):
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions", [])
        if codes is not None and (exit_code in codes["values"]) == (codes["operator"] == "In"):
            return str(rule["action"])
        if disrupted and any(one["type"] == "DisruptionTarget" for one in conditions):
            return str(rule["action"])
    return "Count"


@dataclass
class Controller:
    """The pods of one object. `state`: running, completed or failed."""

    cluster: Cluster
    key: Key
    pods: dict[Any, Pod] = field(default_factory=dict)
    state: str = "running"

    @property
    def gone(self) -> bool:
        """Whether its object was deleted."""
        return self.key not in self.cluster.world.objects

    @property
    def manifest(self) -> dict[str, Any]:
        return self.cluster.world.objects[self.key]

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.manifest["spec"]
        return spec

    @property
    def name(self) -> str:
        return self.key[1]

    def reconcile(self) -> None:
        """Judge what has ended, then bring the number of pods to what is wanted."""
        raise NotImplementedError

    def dismiss(self) -> None:
        """The object is gone: so go its pods."""
        for place, pod in list(self.pods.items()):
            pod.terminate()
            if pod.exit_code is not None:
                self.ended(pod, "Delete")
                del self.pods[place]

    def ended(self, pod: Pod, action: str) -> None:
        self.cluster.judged(pod, action)


@dataclass
class JobController(Controller):
    """Its back-off is left out: it was measured on a real control plane, and takes minutes."""

    def reconcile(self) -> None:
        for index, pod in list(self.pods.items()):
            if pod.exit_code is None:
                continue
            del self.pods[index]
            if pod.exit_code == 0:
                self.ended(pod, "Succeed")
                if self.state == "running" and not self.spec.get("suspend"):
                    self._finish("completed", "Complete")
                continue
            # A pod that its own Job deletes is no failure of it.
            action = judge(self.spec, pod.exit_code, disrupted=pod.disrupted)
            self.ended(pod, action)
            if action == "FailJob":
                self._finish("failed", "Failed")
        wanted = 0 if self.spec.get("suspend") else self.spec.get("parallelism", 1)
        for index, pod in self.pods.items():
            if index >= wanted:
                pod.terminate()
        if self.state == "running":
            for index in range(wanted):
                if index not in self.pods:
                    self.pods[index] = self._run(index)

    def _run(self, index: int) -> Pod:
        suffix = self.cluster.suffix()
        if self.spec.get("completionMode") != "Indexed":
            return self.cluster.run(self.manifest, f"{self.name}-{suffix}")
        annotations = {names.COMPLETION_INDEX: str(index)}
        return self.cluster.run(self.manifest, f"{self.name}-{index}-{suffix}", **annotations)

    def _finish(self, state: str, condition: str) -> None:
        self.state = state
        self.manifest["status"] = {"conditions": [{"type": condition, "status": "True"}]}
        for pod in self.pods.values():
            pod.terminate()


@dataclass
class DeploymentController(Controller):
    """Replaces at once; a container that ends by itself starts again in its pod."""

    def reconcile(self) -> None:
        for name, pod in list(self.pods.items()):
            if pod.exit_code is None:
                continue
            gone = pod.disrupted or pod.kill_at is not None
            self.ended(pod, "Replace" if gone else "Restart")
            del self.pods[name]
            if not gone:
                pod.restarts += 1
                pod.start()
                self.pods[name] = pod
        # A pod that leaves counts no more, so its replacement need not wait for its grace period.
        staying = [pod for pod in self.pods.values() if pod.kill_at is None]
        for pod in staying[self.spec["replicas"] :]:
            pod.terminate()
        for _ in range(self.spec["replicas"] - len(staying)):
            name = f"{self.name}-{self.cluster.suffix()}"
            self.pods[name] = self.cluster.run(self.manifest, name)


@dataclass
class StatefulSetController(Controller):
    """Stable names and addresses; a pod that ended starts again."""

    def __post_init__(self) -> None:
        self.own = {
            index: self.cluster.address(20_000 + index) for index in range(self.spec["replicas"])
        }
        for index, address in self.own.items():
            namespace = self.manifest["metadata"]["namespace"]
            name = f"{self.name}-{index}.{self.spec['serviceName']}.{namespace}.svc"
            self.cluster.world.addresses[name] = address

    def reconcile(self) -> None:
        for index, address in self.own.items():
            pod = self.pods.get(index)
            if pod is None:
                self.pods[index] = self.cluster.run(self.manifest, f"{self.name}-{index}", address)
            elif pod.exit_code is not None:
                self.ended(pod, "Restart")
                pod.start()


@dataclass
class JobSetController(Controller):
    """Makes its Jobs, those that others wait for first; is complete when those it names are, and
    has failed with the first that fails, as its set may never be restarted."""

    def reconcile(self) -> None:
        if self.state != "running":
            return
        for one in self.spec["replicatedJobs"]:
            if all(self._ready(before["name"]) for before in one.get("dependsOn", [])):
                child = self.cluster.world.objects.setdefault(
                    self._child(one["name"]), self._made(one["template"]["spec"], one["name"])
                )
                child["spec"]["suspend"] = self.spec.get("suspend", False)
        every = [one["name"] for one in self.spec["replicatedJobs"]]
        if any(self._state(name) == "failed" for name in every):
            self._finish("failed", "Failed")
        elif {self._state(n) for n in self.spec["successPolicy"]["targetReplicatedJobs"]} == {
            "completed"
        }:
            self._finish("completed", "Completed")

    def _child(self, name: str) -> Key:
        return "Job", f"{self.name}-{name}-0"

    def _made(self, spec: Manifest, name: str) -> dict[str, Any]:
        namespace = self.manifest["metadata"]["namespace"]
        head = {"name": self._child(name)[1], "namespace": namespace}
        return {"kind": "Job", "metadata": head, "spec": dict(spec)}

    def _state(self, name: str) -> str:
        child = self.cluster.controllers.get(self._child(name))
        return child.state if child is not None else "running"

    def _ready(self, name: str) -> bool:
        pods = self.cluster.of(*self._child(name))
        return bool(pods) and all(pod.ready for pod in pods)

    def _finish(self, state: str, condition: str) -> None:
        self.state = state
        self.manifest["status"] = {"conditions": [{"type": condition, "status": "True"}]}
        for one in self.spec["replicatedJobs"]:
            self.cluster.world.objects.pop(self._child(one["name"]), None)


CONTROLLERS = {
    "JobSet": JobSetController,
    "Job": JobController,
    "Deployment": DeploymentController,
    "StatefulSet": StatefulSetController,
}
