"""A stand-in for an API server, over real HTTP: it stores, applies, refuses, conflicts and delays.

It enforces the rules of `trainer.deploy.rules`, also those of updates, and keeps which manager set
which field of `spec`, as far as the tests need it. It has no controllers.
"""

from __future__ import annotations

import copy
import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from trainer.deploy import rules
from trainer.deploy.api import PLACES
from trainer.deploy.merge import merge

KINDS = {(place.prefix, place.plural): kind for kind, place in PLACES.items()}
TOKEN = "a-token-of-the-tests"
ROUTE = re.compile(
    r"/(?P<prefix>api/v1|apis/[^/]+/[^/]+)/namespaces/(?P<namespace>[^/]+)/(?P<plural>[^/]+)"
    r"(/(?P<name>[^/]+))?(/(?P<sub>[^/]+))?"
)


@dataclass
class Fault:
    """What happens to the next `times` requests whose line contains `where`."""

    where: str
    status: int = 0
    message: str = "as the test wants it"
    delay: float = 0.0
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


class ApiServer:
    """The state: objects by (kind, name), requests as they came, faults to come."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.managers: dict[tuple[str, str], dict[str, str]] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.logs: dict[str, str] = {}
        self.evicted: list[str] = []
        self.allowed_evictions = 100
        self.lock = threading.Lock()
        self.version = 0
        self.url = ""

    def kubeconfig(self, path: Path, *, namespace: str = "team") -> Path:
        """A kubeconfig that leads here."""
        user = {"name": "u", "user": {"token": TOKEN}}
        cluster = {"name": "c", "cluster": {"server": self.url}}
        context = {"cluster": "c", "user": "u", "namespace": namespace}
        config = {
            "apiVersion": "v1", "kind": "Config", "users": [user], "clusters": [cluster],
            "contexts": [{"name": "here", "context": context}], "current-context": "here",
        }  # fmt: skip
        path.write_text(yaml.safe_dump(config))
        return path

    def add_pod(self, name: str, job: str, *, ready: bool = True, **status: Any) -> dict[str, Any]:
        """A pod of the job's agents, as a controller and a kubelet would make it."""
        labels = {"app.kubernetes.io/name": "remesh", "app.kubernetes.io/instance": job}
        labels["app.kubernetes.io/component"] = "agent"
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": "machine-a"},
            "status": {"phase": "Running", "conditions": [condition], **status},
        }
        self.objects["Pod", name] = pod
        return pod

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return self.objects[kind, name]

    # Answers: (status, body)

    def answer(self, method: str, target: str, content: str, body: Any) -> tuple[int, Any]:
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        route = ROUTE.fullmatch(parts.path)
        kind = KINDS.get((route["prefix"], route["plural"])) if route else None
        if route is None or kind is None:
            return failure(404, f"the server could not find {parts.path}")
        name, sub = route["name"], route["sub"]
        if name is None:
            return 200, {"kind": f"{kind}List", "items": self.select(kind, query)}
        if sub == "log":
            return 200, self.logs.get(name, "")
        if sub == "eviction":
            return self.evict(name)
        if sub == "scale":
            return self.scale(kind, name, method, body)
        if method == "PATCH" and content == "application/apply-patch+yaml":
            return self.apply(kind, name, route["namespace"], query, body)
        known = self.objects.get((kind, name))
        if known is None:
            return failure(404, f'{route["plural"]} "{name}" not found')
        if method == "PATCH":
            return self.store(kind, name, merge(known, body), query.get("fieldManager", ""), body)
        if method == "DELETE":
            del self.objects[kind, name]
            self.collect(known["metadata"].get("uid"))
            return 200, {"kind": "Status", "status": "Success"}
        return 200, known

    def select(self, kind: str, query: dict[str, str]) -> list[dict[str, Any]]:
        wanted = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
        return [
            one
            for (its_kind, _), one in self.objects.items()
            if its_kind == kind and wanted.items() <= one["metadata"].get("labels", {}).items()
        ]

    def evict(self, name: str) -> tuple[int, Any]:
        if ("Pod", name) not in self.objects:
            return failure(404, f'pods "{name}" not found')
        if self.allowed_evictions == 0:
            return failure(429, "Cannot evict pod as it would violate the pod's disruption budget.")
        self.allowed_evictions -= 1
        self.evicted.append(name)
        del self.objects["Pod", name]
        return 201, {"kind": "Status", "status": "Success"}

    def scale(self, kind: str, name: str, method: str, body: Any) -> tuple[int, Any]:
        known = self.objects.get((kind, name))
        if known is None:
            return failure(404, f'"{name}" not found')
        if method == "PATCH":
            known["spec"]["replicas"] = body["spec"]["replicas"]
            self.managers[kind, name]["replicas"] = "scale"
        metadata = {key: known["metadata"][key] for key in ("name", "creationTimestamp")}
        return 200, {
            "kind": "Scale", "metadata": metadata, "spec": {"replicas": known["spec"]["replicas"]},
        }  # fmt: skip

    def apply(
        self, kind: str, name: str, namespace: str, query: dict[str, str], body: Any
    ) -> tuple[int, Any]:
        body["metadata"].setdefault("namespace", namespace)
        if body["metadata"]["namespace"] != namespace:
            return failure(400, "the namespace of the object does not match the request")
        manager = query["fieldManager"]
        known = self.objects.get((kind, name))
        held = self.managers.get((kind, name), {})
        for key, value in (body.get("spec") or {}).items():
            holder = held.get(key, manager)
            differs = known is not None and known["spec"].get(key) != value
            if holder != manager and differs and query.get("force") != "true":
                message = f'Apply failed with 1 conflict: conflict with "{holder}": .spec.{key}'
                return failure(409, message)
        found = rules.problems([body])
        if known is not None:
            found += rules.update_problems(known, {**known, **body})
        if found:
            return failure(422, found[0])
        if query.get("dryRun") == "All":
            return 200, body
        return self.store(kind, name, merge(known or {}, body), manager, body)

    def store(
        self, kind: str, name: str, made: dict[str, Any], manager: str, body: Any
    ) -> tuple[int, Any]:
        known = self.objects.get((kind, name))
        found = rules.problems([made])
        if known is not None:
            found += rules.update_problems(known, made)
        if found:
            return failure(422, found[0])
        self.version += 1
        made = copy.deepcopy(made)
        metadata = made["metadata"]
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        changed = known is not None and known.get("spec") != made.get("spec")
        metadata["generation"] = metadata.get("generation", 1) + changed
        metadata["resourceVersion"] = str(self.version)
        self.objects[kind, name] = made
        held = self.managers.setdefault((kind, name), {})
        held.update(dict.fromkeys(body.get("spec") or {}, manager))
        return 200, made

    def collect(self, owner: str | None) -> None:
        """What the deleted object owned goes with it."""
        for key, one in list(self.objects.items()):
            owners = one["metadata"].get("ownerReferences") or []
            if owner is not None and any(entry["uid"] == owner for entry in owners):
                self.objects.pop(key, None)


def failure(code: int, message: str) -> tuple[int, Any]:
    return code, {"kind": "Status", "status": "Failure", "code": code, "message": message}


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """Serves on a free loopback port for the length of the block."""
    state = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            line = f"{self.command} {self.path}"
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length)
            with state.lock:
                state.requests.append(line)
                fault = next((one for one in state.faults if one.where in line), None)
                if fault is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        state.faults.remove(fault)
            if fault is not None:
                time.sleep(fault.delay)
            if fault is not None and fault.status:
                status, body = failure(fault.status, fault.message)
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, body = failure(401, "Unauthorized")
            else:
                parsed = json.loads(text) if text else None
                with state.lock:
                    content = self.headers.get("Content-Type", "")
                    status, body = state.answer(self.command, self.path, content, parsed)
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            for key, value in (fault.headers if fault is not None else {}).items():
                self.send_header(key, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = do_POST = do_DELETE = handle_any

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
