"""A cluster of local processes: rendered manifests, pods, and as much of the controllers as counts.

Everything happens in `tick`: pods that ended are judged by their own policy and replaced, pods past
their grace period are killed. `until` ticks until a condition holds.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import string
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.deploy.kubelet import Pod, World, images, variables
from trainer.deploy import names

Manifest = Mapping[str, Any]

TICK_SECONDS = 0.1
PATIENCE = 400.0


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
class Ending:
    """How a pod ended, and what its controller made of it."""

    pod: str
    code: int
    disrupted: bool
    action: str


class Cluster:
    """Machines, pods, controllers. Not thread-safe; everything is ended by `close`."""

    def __init__(self, directory: Path) -> None:
        self.world = World(directory, programs=images(), variables=variables())
        self.pods: dict[str, Pod] = {}
        self.controllers: list[_Controller] = []
        self.endings: list[Ending] = []
        self._numbers = itertools.count(1)
        self._network = random.randrange(20, 250)
        self._proxies: list[_Proxy] = []

    # Objects

    def add(self, manifests: list[dict[str, Any]]) -> None:
        """Keep every object, and begin what has pods."""
        for one in manifests:
            self.world.objects[one["kind"], one["metadata"]["name"]] = one
        for one in manifests:
            if one["kind"] == "Service" and one["spec"].get("clusterIP") != "None":
                self._serve(one)
        for one in manifests:
            match one["kind"]:
                case "Job" if one["spec"].get("completionMode") == "Indexed":
                    self.controllers.append(_IndexedJob(self, one))
                case "Deployment":
                    self.controllers.append(_Deployment(self, one))
                case "StatefulSet":
                    self.controllers.append(_StatefulSet(self, one))
        self.tick()

    def controller(self, name: str) -> _Controller:
        return next(one for one in self.controllers if one.manifest["metadata"]["name"] == name)

    def of(self, name: str) -> list[Pod]:
        """The pods of a controller that have not ended."""
        return list(self.controller(name).pods.values())

    # What happens to it

    def evict(self, pod: Pod) -> None:
        """As `kubectl drain` or a spot notice: SIGTERM, grace, SIGKILL."""
        pod.disrupted = True
        pod.terminate()

    def delete_machine(self, pod: Pod) -> None:
        """The pod's machine is gone: no word, no grace."""
        pod.disrupted = True
        pod.kill()

    # Time

    def tick(self) -> None:
        for pod in self.pods.values():
            pod.hurry()
        for controller in self.controllers:
            controller.reconcile()

    def until(self, condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        end = time.monotonic() + patience
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"{patience:g} s have passed without {what}\n{self.story()}")
            self.tick()
            time.sleep(TICK_SECONDS)

    def story(self) -> str:
        """The end of every pod's log, for a failed assertion."""
        parts = [str(ending) for ending in self.endings]
        for pod in self.pods.values():
            tail = (
                pod.log.read_text(errors="replace").splitlines()[-12:] if pod.log.exists() else []
            )
            parts += [f"--- {pod.name} {pod.address} exit {pod.exit_code}", *tail]
        return "\n".join(parts)

    def close(self) -> None:
        for controller in self.controllers:
            controller.closed = True
        for pod in self.pods.values():
            pod.kill()
        for proxy in self._proxies:
            proxy.close()

    # For controllers

    def run(self, owner: Manifest, name: str, address: str = "", **annotations: str) -> Pod:
        number = next(self._numbers)
        pod = Pod(
            self.world,
            name=name,
            namespace=owner["metadata"].get("namespace", "default"),
            address=address or self.address(number),
            machine=f"machine-{number}",
            template=owner["spec"]["template"],
            annotations=annotations,
        )
        self.pods[name] = pod
        pod.start()
        return pod

    def address(self, number: int) -> str:
        return f"127.{self._network}.{number // 250}.{number % 250 + 1}"

    def suffix(self) -> str:
        return "".join(random.choices(string.ascii_lowercase + string.digits, k=5))

    def _serve(self, service: Manifest) -> None:
        name, namespace = service["metadata"]["name"], service["metadata"].get("namespace", "")
        wanted = service["spec"]["selector"]
        port = service["spec"]["ports"][0]["port"]

        def endpoints() -> list[str]:
            chosen = [pod for pod in self.pods.values() if wanted.items() <= pod.labels.items()]
            return [pod.address for pod in chosen if pod.process and pod.exit_code is None]

        proxy = _Proxy(self.address(10_000 + len(self._proxies)), port, endpoints)
        self._proxies.append(proxy)
        for alias in (f"{name}.{namespace}.svc", f"{name}.{namespace}", name):
            self.world.addresses[alias] = proxy.address


@dataclass
class _Controller:
    cluster: Cluster
    manifest: dict[str, Any]
    pods: dict[Any, Pod] = field(default_factory=dict)
    closed: bool = False

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.manifest["spec"]
        return spec

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    def reconcile(self) -> None:
        """Judge what has ended, then bring the number of pods to what is wanted."""

    def ended(self, pod: Pod, action: str) -> None:
        assert pod.exit_code is not None
        ending = Ending(pod.name, pod.exit_code, pod.disrupted, action)
        self.cluster.endings.append(ending)


@dataclass
class _IndexedJob(_Controller):
    """Its back-off is left out: it was measured on a real control plane, and takes minutes."""

    state: str = "running"

    def reconcile(self) -> None:
        if self.closed:
            return
        for index, pod in list(self.pods.items()):
            if pod.exit_code is None:
                continue
            del self.pods[index]
            if pod.exit_code == 0:
                self.ended(pod, "Succeed")
                if self.state == "running" and not self.spec.get("suspend"):
                    self._finish("completed")
                continue
            # A pod that its own Job deletes is no failure of it.
            action = judge(self.spec, pod.exit_code, disrupted=pod.disrupted)
            self.ended(pod, action)
            if action == "FailJob":
                self._finish("failed")
        wanted = 0 if self.spec.get("suspend") else self.spec["parallelism"]
        for index, pod in self.pods.items():
            if index >= wanted:
                pod.terminate()
        if self.state == "running":
            for index in range(wanted):
                if index not in self.pods:
                    self.pods[index] = self.cluster.run(
                        self.manifest,
                        f"{self.name}-{index}-{self.cluster.suffix()}",
                        **{names.COMPLETION_INDEX: str(index)},
                    )

    def _finish(self, state: str) -> None:
        self.state = state
        for pod in self.pods.values():
            pod.terminate()


@dataclass
class _Deployment(_Controller):
    """Replaces at once; a container that ends by itself starts again in its pod."""

    def reconcile(self) -> None:
        if self.closed:
            return
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
class _StatefulSet(_Controller):
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
        if self.closed:
            return
        for index, address in self.own.items():
            pod = self.pods.get(index)
            if pod is None:
                self.pods[index] = self.cluster.run(self.manifest, f"{self.name}-{index}", address)
            elif pod.exit_code is not None:
                self.ended(pod, "Restart")
                pod.start()


class _Proxy:
    """A Service's address: each connection goes to one of the endpoints, chosen at random."""

    def __init__(self, address: str, port: int, endpoints: Callable[[], list[str]]) -> None:
        self.address = address
        self._port = port
        self._endpoints = endpoints
        self._listener = socket.create_server((address, port), backlog=128)
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        addresses = self._endpoints()
        random.shuffle(addresses)
        for address in addresses:
            try:
                far = socket.create_connection((address, self._port), timeout=5)
            except OSError:
                continue
            far.settimeout(None)
            self._open |= {near, far}
            back = threading.Thread(target=_copy, args=(far, near), daemon=True)
            back.start()
            _copy(near, far)
            back.join()
            self._open -= {near, far}
            far.close()
            break
        near.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    """A cluster without anything in it, ended with the block."""
    made = Cluster(directory)
    try:
        yield made
    finally:
        made.close()
