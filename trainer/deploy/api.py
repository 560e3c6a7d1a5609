"""What we ask of an API server: a thin layer over the official client's connection.

Every call here may be repeated without harm, so a server that is slow, busy or away for a moment
is asked again until `patience` is over.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from trainer.errors import ClusterConflict, ClusterError, ClusterRefused, ClusterUnreachable

MANAGER = "remesh"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
BUSY = (429, 500, 502, 503, 504)
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0


class Place(NamedTuple):
    """Where objects of a kind are kept."""

    prefix: str
    plural: str


PLACES: Mapping[str, Place] = {
    "ConfigMap": Place("api/v1", "configmaps"),
    "Pod": Place("api/v1", "pods"),
    "Service": Place("api/v1", "services"),
    "ServiceAccount": Place("api/v1", "serviceaccounts"),
    "Job": Place("apis/batch/v1", "jobs"),
    "Deployment": Place("apis/apps/v1", "deployments"),
    "PodDisruptionBudget": Place("apis/policy/v1", "poddisruptionbudgets"),
    "Role": Place("apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": Place("apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "JobSet": Place("apis/jobset.x-k8s.io/v1alpha2", "jobsets"),
}


class Cluster:
    """One namespace of one cluster."""

    def __init__(
        self,
        client: Any,
        namespace: str,
        *,
        timeout: float = 10.0,
        patience: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`client` is a `kubernetes.client.ApiClient`. `timeout`: of one call; `patience`: of all
        its repetitions; both in seconds."""
        self._client = client
        self.namespace = namespace
        self._timeout = timeout
        self._patience = patience
        self._sleep = sleep

    @classmethod
    def connect(
        cls, *, context: str | None = None, namespace: str | None = None, timeout: float = 10.0
    ) -> Cluster:
        """By the kubeconfig as kubectl finds it, or from inside a pod.

        Raises:
            ClusterError: the client is not installed, or there is nothing to connect to.
        """
        try:
            from kubernetes import client, config
        except ImportError:
            raise ClusterError(
                "the Kubernetes client is not installed; pip install 'remesh[kubernetes]', or "
                "use `remesh render JOB.yaml | kubectl apply -f -`"
            ) from None
        settings = client.Configuration()
        chosen = "default"
        # The client reads this variable when it is imported, which may be long ago.
        path = os.environ.get("KUBECONFIG") or None
        try:
            config.load_kube_config(path, context=context, client_configuration=settings)
            contexts, active = config.list_kube_config_contexts(path)
            if context is not None:
                active = next(one for one in contexts if one["name"] == context)
            chosen = active["context"].get("namespace", chosen)
        except config.ConfigException as error:
            try:
                config.load_incluster_config(client_configuration=settings)
            except config.ConfigException:
                where = path or config.KUBE_CONFIG_DEFAULT_LOCATION
                raise ClusterError(
                    f"no cluster to talk to: {error} (read from {where}; set KUBECONFIG, choose "
                    "with --context, or use `remesh render JOB.yaml | kubectl apply -f -`)"
                ) from None
        settings.retries = False
        return cls(client.ApiClient(settings), namespace or chosen, timeout=timeout)

    def apply(
        self, manifest: Mapping[str, Any], *, force: bool = False, dry_run: bool = False
    ) -> dict[str, Any]:
        """Server-side apply: create it, or change the fields that are ours.

        Raises:
            ClusterConflict: another manager holds one of the fields, and `force` is not set.
            ClusterRefused: the server does not take it.
        """
        query = {"fieldManager": MANAGER, "force": "true" if force else "false"}
        if dry_run:
            query["dryRun"] = "All"
        path = self._path(manifest["kind"], manifest["metadata"]["name"])
        return self._json("PATCH", path, query, manifest, APPLY)

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """The object, or None when there is none."""
        try:
            return self._json("GET", self._path(kind, name))
        except _Missing:
            return None

    def list(self, kind: str, selector: str) -> list[dict[str, Any]]:
        """The objects with those labels; none where the cluster does not know the kind."""
        try:
            answer = self._json("GET", self._path(kind), {"labelSelector": selector})
        except _Missing:
            return []
        found: list[dict[str, Any]] = answer.get("items", [])
        return found

    def merge(
        self, kind: str, name: str, patch: Mapping[str, Any], subresource: str = ""
    ) -> dict[str, Any]:
        """JSON merge patch over an object or a part of it."""
        path = self._path(kind, name, subresource)
        return self._json("PATCH", path, {"fieldManager": MANAGER}, patch, MERGE)

    def delete(self, kind: str, name: str) -> bool:
        """Delete it and, by and by, what it owns. False when it was not there."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        try:
            self._json("DELETE", self._path(kind, name), {}, options, "application/json")
        except _Missing:
            return False
        return True

    def evict(self, pod: str) -> None:
        """Have the pod leave with notice, as a machine's drain does.

        Raises:
            ClusterRefused: a disruption budget does not allow it now, or there is no such pod.
        """
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.namespace},
        }
        path = self._path("Pod", pod, "eviction")
        self._json("POST", path, {}, body, "application/json", busy=BUSY[1:])

    def logs(self, pod: str, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        """Lines of the agent, as they come; ends with the container, or at once without follow."""
        query = {"follow": "true" if follow else "false", "container": "agent"}
        if tail is not None:
            query["tailLines"] = str(tail)
        read = None if follow else self._timeout
        answer = self._call("GET", self._path("Pod", pod, "log"), query, None, "", read=read)
        rest = b""
        for chunk in answer.stream(4096):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in lines)
        if rest:
            yield rest.decode("utf-8", "replace")

    def _path(self, kind: str, name: str = "", subresource: str = "") -> str:
        place = PLACES[kind]
        parts = [place.prefix, "namespaces", self.namespace, place.plural, name, subresource]
        return "/" + "/".join(part for part in parts if part)

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = "",
        busy: tuple[int, ...] = BUSY,
    ) -> dict[str, Any]:
        data = self._call(method, path, query or {}, body, content, busy=busy).data
        answer: dict[str, Any] = json.loads(data)
        return answer

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        content: str,
        *,
        busy: tuple[int, ...] = BUSY,
        read: float | None = 0.0,
    ) -> Any:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json, */*"}
        if content:
            headers["Content-Type"] = content
        wait = (self._timeout, self._timeout if read == 0.0 else read)
        give_up, pause = time.monotonic() + self._patience, FIRST_PAUSE
        while True:
            try:
                return self._client.call_api(
                    path, method, {}, list(query.items()), headers, body=body,
                    auth_settings=["BearerToken"], _preload_content=False,
                    _return_http_data_only=True, _request_timeout=wait,
                )  # fmt: skip
            except ApiException as error:
                failure = _failure(error, method, path)
                if error.status not in busy:
                    raise failure from None
                pause = max(pause, _retry_after(error))
            except HTTPError as error:
                failure = ClusterUnreachable(f"{method} {path}: no answer: {error}")
            if time.monotonic() + pause > give_up:
                raise failure from None
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


class _Missing(ClusterRefused):
    """404."""


def _failure(error: Any, method: str, path: str) -> ClusterError:
    message = _message(error)
    where = f"{method} {path}"
    match error.status:
        case 404:
            return _Missing(f"{where}: {message or 'not found'}")
        case 409:
            return ClusterConflict(f"{where}: {message}")
        case 401:
            return ClusterRefused(f"{where}: the server does not know you: {message}")
        case 403:
            return ClusterRefused(
                f"{where}: not allowed: {message}; docs/kubernetes.md lists the rights needed"
            )
        case status if status in BUSY:
            return ClusterUnreachable(
                f"{where}: the server is busy or broken ({status}): {message}"
            )
        case _:
            return ClusterRefused(f"{where}: refused: {message}")


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason or "")


def _retry_after(error: Any) -> float:
    value = (error.headers or {}).get("Retry-After", "")
    return min(float(value), LONGEST_PAUSE) if value.isdigit() else 0.0
