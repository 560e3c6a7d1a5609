"""What torchrun's flags say: --rdzv-endpoint, --rdzv-id, --nnodes, --rdzv-conf, --local-addr."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from torch.distributed.elastic.rendezvous import RendezvousParameters

from rendezvous.errors import ConfigurationError
from rendezvous.etcd import Access
from rendezvous.store.location import parse_endpoints
from rendezvous.torchrun.rounds import Terms

KNOWN = {
    "join_timeout", "last_call_timeout", "lease", "read_timeout",
    "ca", "cert", "key", "user", "password_file",
}  # fmt: skip
# Of torch's own backends. They mean nothing here; torchrun adds the first one by itself.
FOREIGN = {
    "timeout", "is_host", "store_type", "close_timeout", "heartbeat_timeout",
    "keep_alive_interval", "keep_alive_max_attempt",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times in seconds. Raises ConfigurationError for what is unknown or can't be read."""

    run_id: str
    endpoints: list[str]
    access: Access
    terms: Terms
    address: str
    """Where the other agents reach this one."""
    join_timeout: float
    """How long to wait for a round when nobody trains."""
    lease: float
    """An agent that is silent for this long is lost."""
    read_timeout: float
    """For the round's own store."""

    @classmethod
    def read(cls, parameters: RendezvousParameters) -> Settings:
        if unknown := set(parameters.config) - KNOWN - FOREIGN:
            raise ConfigurationError(
                f"--rdzv-conf: {', '.join(sorted(unknown))} is unknown; "
                f"there are {', '.join(sorted(KNOWN))}"
            )
        endpoints = parse_endpoints(parameters.endpoint)
        return cls(
            run_id=parameters.run_id,
            endpoints=endpoints,
            access=_access(parameters),
            terms=Terms(
                min_nodes=parameters.min_nodes,
                max_nodes=parameters.max_nodes,
                last_call=_seconds(parameters, "last_call_timeout", 30.0),
            ),
            address=parameters.local_addr or address_towards(endpoints[0]),
            join_timeout=_seconds(parameters, "join_timeout", 600.0),
            lease=_seconds(parameters, "lease", 6.0),
            read_timeout=_seconds(parameters, "read_timeout", 60.0),
        )


def address_towards(endpoint: str) -> str:
    """This machine's address on the way to `endpoint`; no packet is sent.

    Raises ConfigurationError when the name can't be resolved.
    """
    host, _, port = endpoint.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
        family, kind, protocol, _, there = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(there)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise ConfigurationError(f"--rdzv-endpoint: {endpoint}: {error}") from error


def _seconds(parameters: RendezvousParameters, name: str, default: float) -> float:
    said = parameters.get(name, default)
    try:
        seconds = float(said)
    except ValueError:
        seconds = -1.0
    if seconds < 0:
        raise ConfigurationError(f"--rdzv-conf: {name}={said} is not a number of seconds")
    return seconds


def _access(parameters: RendezvousParameters) -> Access:
    def read(name: str) -> bytes | None:
        path = parameters.get(name)
        try:
            return Path(path).read_bytes() if path else None
        except OSError as error:
            raise ConfigurationError(f"--rdzv-conf: {name}: {error}") from error

    password = read("password_file")
    return Access(
        ca=read("ca"),
        cert=read("cert"),
        key=read("key"),
        user=parameters.get("user"),
        password=password.decode().strip() if password is not None else None,
    )
