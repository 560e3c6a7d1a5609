"""What torchrun's flags say: --rdzv-endpoint, --rdzv-id, --nnodes, --rdzv-conf, --local-addr."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch.distributed.elastic.rendezvous import RendezvousParameters

from rendezvous.errors import ConfigurationError
from rendezvous.etcd import Access
from rendezvous.outside.echo import shown
from rendezvous.store.location import SWITCH, parse_endpoints
from rendezvous.torchrun.conf import (
    JOIN_TIMEOUT,
    LAST_CALL,
    READ_TIMEOUT,
    address_towards,
    check_known,
    seconds,
)
from rendezvous.torchrun.rounds import Terms

KNOWN = {
    "join_timeout", "last_call_timeout", "lease", "read_timeout",
    "ca", "cert", "key", "user", "password_file", "learn",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times in seconds. Raises ConfigurationError for what is unknown or can't be read."""

    run_id: str
    endpoints: list[str]
    access: Access
    read_access: Callable[[], Access]
    """Reads it anew: files change."""
    learn: bool
    """Whether to use other members that etcd names."""
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
        check_known(parameters, KNOWN)
        endpoints = parse_endpoints(parameters.endpoint)
        return cls(
            run_id=parameters.run_id,
            endpoints=endpoints,
            access=_access(parameters),
            read_access=lambda: _access(parameters),
            learn=_switch(parameters, "learn"),
            terms=Terms(
                min_nodes=parameters.min_nodes,
                max_nodes=parameters.max_nodes,
                last_call=seconds(parameters, "last_call_timeout", LAST_CALL),
            ),
            address=parameters.local_addr or address_towards(endpoints[0]),
            join_timeout=seconds(parameters, "join_timeout", JOIN_TIMEOUT),
            lease=seconds(parameters, "lease", 6.0),
            read_timeout=seconds(parameters, "read_timeout", READ_TIMEOUT),
        )


def _switch(parameters: RendezvousParameters, name: str) -> bool:
    """On unless it is 0."""
    said = str(parameters.get(name, "1"))
    if said not in SWITCH:
        raise ConfigurationError(f"--rdzv-conf: {name}={shown(said)} is neither 0 nor 1")
    return SWITCH[said]


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
