"""Pods as local processes: the part of a kubelet that a rendered manifest needs.

A pod gets a loopback address of its own and a directory for its volumes. What a mount namespace,
a network namespace and the cluster's DNS would do is done by rewriting words of the container:
mounted paths become directories, 0.0.0.0 the pod's address, names of services their addresses.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.etcd_server import binary as etcd_binary

Manifest = Mapping[str, Any]

ROOT = Path(__file__).parents[3]
SHARED_MOUNTS = ("/dev/shm",)


@dataclass
class World:
    """What pods find around them: objects of the cluster, programs of images, names."""

    directory: Path
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    programs: dict[str, list[str]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    account: Path | None = None

    def claim(self, name: str) -> Path:
        """The directory that is a PersistentVolumeClaim."""
        path = self.directory / "claims" / name
        path.mkdir(parents=True, exist_ok=True)
        return path


@dataclass
class Pod:
    """One pod of one container, from its start to its end."""

    world: World
    name: str
    namespace: str
    address: str
    machine: str
    template: Manifest
    annotations: dict[str, str] = field(default_factory=dict)
    process: psutil.Popen | None = None
    disrupted: bool = False
    kill_at: float | None = None
    restarts: int = 0

    def __post_init__(self) -> None:
        self.home = self.world.directory / "pods" / self.name
        self.home.mkdir(parents=True)
        self.log = self.home / "log"
        self.paths = self._materialize()

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = self.template["metadata"]["labels"]
        return found

    @property
    def container(self) -> Manifest:
        (only,) = self.template["spec"]["containers"]
        return only

    def start(self) -> None:
        """As containerd would: the image's entrypoint, or the command, and the arguments."""
        container = self.container
        env = self._variables()
        image = container["image"].rpartition(":")[0] or container["image"]
        command = container.get("command") or self.world.programs[image]
        arguments = [*command[1:], *(self._expand(word, env) for word in container.get("args", []))]
        if self.template["spec"].get("automountServiceAccountToken") and self.world.account:
            # In a pod it lies where the program looks for it by itself.
            arguments += ["--account", str(self.world.account)]
        program = self.world.programs.get(command[0], [command[0]])
        inside = container.get("workingDir")
        cwd = self._place(inside) if inside else str(self.home)
        with self.log.open("ab") as log:
            self.process = psutil.Popen(
                [*program, *(self._place(self._resolve(word)) for word in arguments)],
                env={
                    **self.world.variables,
                    **{name: self._place(text) for name, text in env.items()},
                },
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _variables(self) -> dict[str, str]:
        """The container's variables, with fields, Secrets and ConfigMaps looked up."""
        env: dict[str, str] = {}
        for variable in self.container.get("env", []):
            source = variable.get("valueFrom", {})
            if "fieldRef" in source:
                text = self._field(source["fieldRef"]["fieldPath"])
            elif "configMapKeyRef" in source:
                reference = source["configMapKeyRef"]
                text = self.world.objects["ConfigMap", reference["name"]]["data"][reference["key"]]
            elif "secretKeyRef" in source:
                reference = source["secretKeyRef"]
                text = self.world.objects["Secret", reference["name"]]["data"][reference["key"]]
            else:
                text = self._expand(variable.get("value", ""), env)
            env[variable["name"]] = text
        return env

    @property
    def exit_code(self) -> int | None:
        """None while it runs; a signal n is 128 + n, as a kubelet says it."""
        assert self.process is not None
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code

    @property
    def ready(self) -> bool:
        """What the readiness probe says now."""
        if self.process is None or self.exit_code is not None:
            return False
        probe = self.container.get("readinessProbe", {})
        if "grpc" in probe:
            return self._serving(probe["grpc"])
        if "exec" in probe:
            command = [self._place(word) for word in probe["exec"]["command"]]
            return subprocess.run(command, check=False, timeout=30).returncode == 0
        return True

    def as_object(self) -> dict[str, Any]:
        """As an API server has it while it runs."""
        ready = {"type": "Ready", "status": "True" if self.ready else "False"}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "labels": dict(self.labels),
                "annotations": dict(self.annotations),
            },
            "spec": {"nodeName": self.machine},
            "status": {"phase": "Running", "conditions": [ready]},
        }

    def terminate(self) -> None:
        """SIGTERM now, SIGKILL at the end of the grace period (see `hurry`)."""
        assert self.process is not None
        if self.exit_code is None and self.kill_at is None:
            grace = self.template["spec"].get("terminationGracePeriodSeconds", 30)
            self.kill_at = time.monotonic() + grace
            self.process.send_signal(signal.SIGTERM)

    def hurry(self) -> None:
        """The end of the grace period, if it has come."""
        if self.kill_at is not None and time.monotonic() > self.kill_at:
            self.kill()

    def kill(self) -> None:
        """Everything in it at once, as when its machine goes."""
        if self.process is None:
            return
        family = [self.process]
        if self.exit_code is None:
            family += self.process.children(recursive=True)
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(timeout=60)

    def _materialize(self) -> dict[str, str]:
        """Directories in place of volumes: mount path → directory, longest first."""
        volumes = {one["name"]: one for one in self.template["spec"].get("volumes", [])}
        found: dict[str, str] = {}
        for mount in self.container.get("volumeMounts", []):
            if mount["mountPath"] in SHARED_MOUNTS:
                continue
            volume = volumes.get(mount["name"], {"persistentVolumeClaim": {"claimName": self.name}})
            path = self.home / "volumes" / mount["name"]
            if "persistentVolumeClaim" in volume:
                path = self.world.claim(volume["persistentVolumeClaim"]["claimName"])
            path.mkdir(parents=True, exist_ok=True)
            for kind, key in (("configMap", "name"), ("secret", "secretName")):
                if kind in volume:
                    source = "ConfigMap" if kind == "configMap" else "Secret"
                    held = self.world.objects[source, volume[kind][key]]["data"]
                    for name, text in held.items():
                        (path / name).write_text(text)
            found[mount["mountPath"]] = str(path)
        return dict(sorted(found.items(), key=lambda item: -len(item[0])))

    def _place(self, text: str) -> str:
        """Mounted paths in a word, wherever they begin one, in one go: what is put in is a path
        of this machine, and may begin like one of the pod's."""
        if not self.paths:
            return text
        every = "|".join(re.escape(mount) for mount in self.paths)
        return re.sub(rf"(?<![\w./-])({every})(?=$|[/,])", lambda match: self.paths[match[1]], text)

    def _resolve(self, text: str) -> str:
        text = text.replace("0.0.0.0", self.address)
        for name, address in self.world.addresses.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?=$|[:,/])", address, text)
        return text

    def _expand(self, text: str, env: Mapping[str, str]) -> str:
        return re.sub(r"\$\((\w+)\)", lambda match: env.get(match[1], match[0]), text)

    def _field(self, path: str) -> str:
        fields = {
            "metadata.name": self.name,
            "metadata.namespace": self.namespace,
            "status.podIP": self.address,
            "spec.nodeName": self.machine,
        }
        keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
        if keyed is None:
            return fields[path]
        return (self.labels if keyed[1] == "labels" else self.annotations).get(keyed[2], "")

    def _serving(self, probe: Manifest) -> bool:
        with grpc.insecure_channel(f"{self.address}:{probe['port']}") as channel:
            request = health_pb2.HealthCheckRequest(service=probe.get("service", ""))
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
            except grpc.RpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def images() -> dict[str, list[str]]:
    """What the images' entrypoints and commands are here. tini is not needed for a lone process."""
    remesh = [sys.executable, "-m", "trainer.command"]
    return {"remesh": remesh, "etcd": [etcd_binary("etcd")], "python": [sys.executable]}


def variables() -> dict[str, str]:
    """What a process needs here beside the container's own environment."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "ETCD_UNSAFE_NO_FSYNC": "true",
    }
