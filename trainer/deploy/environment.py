"""What a pod tells its agent: names of environment variables, and how to read them.

    REMESH_NODE         the node's name; a pod's, so that a replacement is another node
    REMESH_HOST         the address by which other nodes reach this one
    REMESH_LABELS       key=value,key=value: machine, zone, region, index; empty values are dropped
    REMESH_READY_FILE   exists exactly while every worker of this node is inside a generation
    REMESH_TLS_CA       PEM file of the authority that signed the rendezvous's certificate
    REMESH_TLS_CERT     PEM files to show to the rendezvous; used when both exist
    REMESH_TLS_KEY
    REMESH_TOKEN_FILE   file that holds the token

`pod_environment` writes them for a pod, `Surroundings.read` reads them anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.deploy import names
from trainer.job import Job

NODE = "REMESH_NODE"
HOST = "REMESH_HOST"
LABELS = "REMESH_LABELS"
READY_FILE = "REMESH_READY_FILE"
TLS_CA = "REMESH_TLS_CA"
TLS_CERT = "REMESH_TLS_CERT"
TLS_KEY = "REMESH_TLS_KEY"
TOKEN_FILE = "REMESH_TOKEN_FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where an agent finds itself. What is None was not said."""

    node: str | None = None
    host: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    ready_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None

    @classmethod
    def read(
        cls, environ: Mapping[str, str], exists: Callable[[Path], bool] = Path.exists
    ) -> Surroundings:
        """From the environment; the certificate and its key only when both are there."""
        certificate, key = _path(environ, TLS_CERT), _path(environ, TLS_KEY)
        if certificate is None or key is None or not (exists(certificate) and exists(key)):
            certificate = key = None
        return cls(
            node=environ.get(NODE) or None,
            host=environ.get(HOST) or None,
            labels=parse_labels(environ.get(LABELS, "")),
            ready_file=_path(environ, READY_FILE),
            ca=_path(environ, TLS_CA),
            certificate=certificate,
            key=key,
            token_file=_path(environ, TOKEN_FILE),
        )


class ReadyFile:
    """The file by which a readiness probe sees that this node is inside a generation."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def set(self, ready: bool) -> None:
        """Raises OSError when the file can't be made; without a path nothing happens."""
        if self.path is None:
            return
        if ready:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        else:
            self.path.unlink(missing_ok=True)


def parse_labels(text: str) -> dict[str, str]:
    """`a=1,b=,c=3` → a and c: a label whose value the cluster did not know says nothing."""
    pairs = (part.partition("=") for part in text.split(","))
    return {key.strip(): value.strip() for key, _, value in pairs if key.strip() and value.strip()}


def pod_environment(job: Job) -> list[dict[str, Any]]:
    """The agent's variables, as a container's `env`, each after those it refers to."""
    section = job.kubernetes
    facts = {
        "POD_MACHINE": (names.HOSTNAME, "spec.nodeName"),
        "POD_ZONE": (names.ZONE, f"metadata.labels['{names.ZONE}']"),
        "POD_REGION": (names.REGION, f"metadata.labels['{names.REGION}']"),
        "POD_INDEX": ("index", f"metadata.annotations['{names.COMPLETION_INDEX}']"),
    }
    topology = job.elastic.topology
    if topology is not None and topology not in {label for label, _ in facts.values()}:
        facts["POD_TOPOLOGY"] = (topology, f"metadata.labels['{topology}']")
    env = [_field(NODE, "metadata.name"), _field(HOST, "status.podIP")]
    env += [_field(variable, path) for variable, (_, path) in facts.items()]
    pairs = (f"{label}=$({variable})" for variable, (label, _) in facts.items())
    values = {LABELS: ",".join(pairs), READY_FILE: names.READY_FILE}
    if section.tls_secret is not None:
        values[TLS_CA] = f"{names.TLS_DIRECTORY}/ca.crt"
        values[TLS_CERT] = f"{names.TLS_DIRECTORY}/tls.crt"
        values[TLS_KEY] = f"{names.TLS_DIRECTORY}/tls.key"
    if section.token_secret is not None:
        values[TOKEN_FILE] = f"{names.TOKEN_DIRECTORY}/token"
    values |= {"HOME": names.TEMPORARY, "USER": "remesh", "PYTHONUNBUFFERED": "1"}
    return env + [{"name": name, "value": value} for name, value in values.items()]


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    return Path(environ[name]) if environ.get(name) else None
