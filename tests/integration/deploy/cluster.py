"""A cluster of local processes: the objects of an API server, controllers, pods.

Everything happens in `tick`: objects that came are taken up, pods that ended are judged by their
own policy and replaced, pods past their grace period are killed, and what became of the agents'
pods is told to the API server. `until` ticks until a condition holds.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import string
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.deploy.api_server import TOKEN, ApiServer
from tests.integration.deploy.controllers import CONTROLLERS, Controller, Key
from tests.integration.deploy.kubelet import Pod, World, images, variables
from tests.integration.deploy.proxies import Proxy
from trainer.deploy import names

Manifest = Mapping[str, Any]

TICK_SECONDS = 0.1
PATIENCE = 150.0


@dataclass
class Ending:
    """How a pod ended, and what its controller made of it."""

    pod: str
    code: int
    disrupted: bool
    action: str


class Cluster:
    """Machines, pods, controllers. Not thread-safe; everything is ended by `close`."""

    def __init__(self, directory: Path, api: ApiServer) -> None:
        account = directory / "account"
        account.mkdir()
        (account / "token").write_text(TOKEN)
        self.world = World(
            directory,
            objects=api.objects,
            programs=images(),
            variables={**variables(), "KUBERNETES_SERVER": api.url},
            account=account,
        )
        self.pods: dict[str, Pod] = {}
        self.controllers: dict[Key, Controller] = {}
        self.endings: list[Ending] = []
        self._numbers = itertools.count(1)
        self._network = random.randrange(20, 250)
        self._proxies: dict[str, Proxy] = {}
        self._shown: set[str] = set()

    # Objects

    def add(self, manifests: list[dict[str, Any]]) -> None:
        """Keep objects that nobody applies here: what came with the cluster."""
        for one in manifests:
            self.world.objects[one["kind"], one["metadata"]["name"]] = one
        self.tick()

    def of(self, kind: str, name: str) -> list[Pod]:
        """The pods of an object that have not ended."""
        controller = self.controllers.get((kind, name))
        return list(controller.pods.values()) if controller is not None else []

    def state(self, kind: str, name: str) -> str:
        """Whether it is running, completed or failed."""
        return self.controllers[kind, name].state

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
        self._take_up()
        for pod in self.pods.values():
            pod.hurry()
        for key, controller in list(self.controllers.items()):
            if not controller.gone:
                controller.reconcile()
            elif controller.pods:
                controller.dismiss()
            else:
                del self.controllers[key]
        self._show()

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
        for pod in self.pods.values():
            pod.kill()
        for proxy in self._proxies.values():
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

    def judged(self, pod: Pod, action: str) -> None:
        assert pod.exit_code is not None
        self.endings.append(Ending(pod.name, pod.exit_code, pod.disrupted, action))

    def address(self, number: int) -> str:
        return f"127.{self._network}.{number // 250}.{number % 250 + 1}"

    def suffix(self) -> str:
        return "".join(random.choices(string.ascii_lowercase + string.digits, k=5))

    def _take_up(self) -> None:
        objects = list(self.world.objects.items())
        for (kind, name), one in objects:
            if kind == "Service" and one["spec"].get("clusterIP") != "None":
                self._serve(name, one)
        for key, _ in objects:
            if key[0] in CONTROLLERS and key not in self.controllers:
                self.controllers[key] = CONTROLLERS[key[0]](self, key)

    def _serve(self, name: str, service: Manifest) -> None:
        if name in self._proxies:
            return
        namespace = service["metadata"].get("namespace", "")
        wanted = service["spec"]["selector"]
        port = service["spec"]["ports"][0]["port"]

        def endpoints() -> list[str]:
            chosen = [pod for pod in self.pods.values() if wanted.items() <= pod.labels.items()]
            return [pod.address for pod in chosen if pod.process and pod.exit_code is None]

        proxy = Proxy(self.address(10_000 + len(self._proxies)), port, endpoints)
        self._proxies[name] = proxy
        for alias in (f"{name}.{namespace}.svc", f"{name}.{namespace}", name):
            self.world.addresses[alias] = proxy.address

    def _show(self) -> None:
        """Tell the API server of the agents' pods, and hear which of them were evicted there."""
        for pod in self.pods.values():
            if pod.labels.get(names.COMPONENT) != names.AGENT:
                continue
            if pod.name not in self._shown:
                self._shown.add(pod.name)
                self.world.objects["Pod", pod.name] = pod.as_object()
            elif ("Pod", pod.name) not in self.world.objects:
                if pod.kill_at is None and pod.exit_code is None:
                    self.evict(pod)
            elif pod.exit_code is not None and (pod.disrupted or pod.kill_at is not None):
                del self.world.objects["Pod", pod.name]


@contextlib.contextmanager
def cluster(directory: Path, api: ApiServer) -> Iterator[Cluster]:
    """A cluster without anything in it, ended with the block."""
    made = Cluster(directory, api)
    try:
        yield made
    finally:
        made.close()
