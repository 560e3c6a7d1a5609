"""What torchrun's flags say to the backend `remesh`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch.distributed.elastic.rendezvous import RendezvousParameters

from rendezvous.errors import ConfigurationError
from rendezvous.membership.spec import JobSpec
from rendezvous.outside.names import RUN_ID, named
from rendezvous.security import Security
from rendezvous.store.location import parse_endpoints
from rendezvous.timeouts import Timeouts
from rendezvous.torchrun.conf import (
    JOIN_TIMEOUT,
    LAST_CALL,
    READ_TIMEOUT,
    address_towards,
    check_known,
    seconds,
)

SERVICE_PORT = 29400
FILES = {"tls_ca", "tls_cert", "tls_key", "token_file"}
TIMES = {
    "join_timeout", "last_call_timeout", "read_timeout", "beat_timeout", "reconnect_grace",
    "leader_grace", "boundary_timeout", "grow_interval",
}  # fmt: skip
KNOWN = FILES | TIMES | {"max_restarts"}
# Each agent of torchrun counts restarts itself, by --max-restarts; the service ends no job for it.
UNLIMITED = 1_000_000_000
# Every restart costs torchrun all of its processes: better to be sure that a node is gone.
BEAT_TIMEOUT = 5.0
RECONNECT_GRACE = 1.0
LEADER_GRACE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Times in seconds. Raises ConfigurationError for what is unknown, or does not fit."""

    run_id: str
    endpoints: list[str]
    security: Security
    read_security: Callable[[], Security]
    """Reads it anew: files change."""
    spec: JobSpec
    address: str
    """Where the other agents reach this one."""
    join_timeout: float
    """How long to wait for a service, and for the fewest nodes."""
    read_timeout: float
    """For the generation's own store."""

    @classmethod
    def read(cls, parameters: RendezvousParameters) -> ServiceSettings:
        check_known(parameters, KNOWN)
        endpoints = parse_endpoints(parameters.endpoint, port=SERVICE_PORT)
        try:
            run_id = named(RUN_ID, parameters.run_id, given="--rdzv-id")
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

        def read_security() -> Security:
            return Security.from_files(
                ca=parameters.get("tls_ca"),
                cert=parameters.get("tls_cert"),
                key=parameters.get("tls_key"),
                token_file=parameters.get("token_file"),
            )

        return cls(
            run_id=run_id,
            endpoints=endpoints,
            security=read_security(),
            read_security=read_security,
            spec=_spec(parameters),
            address=parameters.local_addr or address_towards(endpoints[0]),
            join_timeout=seconds(parameters, "join_timeout", JOIN_TIMEOUT),
            read_timeout=seconds(parameters, "read_timeout", READ_TIMEOUT),
        )


def _spec(parameters: RendezvousParameters) -> JobSpec:
    """All agents of a job must come to the same one."""
    usual = JobSpec()
    timeouts = Timeouts()
    join_timeout = seconds(parameters, "join_timeout", JOIN_TIMEOUT)
    beat_timeout = seconds(parameters, "beat_timeout", BEAT_TIMEOUT)
    least = timeouts.least_leader_grace(parameters.max_nodes)
    try:
        spec = JobSpec(
            min_nodes=parameters.min_nodes,
            max_nodes=parameters.max_nodes,
            max_restarts=_count(parameters, "max_restarts", UNLIMITED),
            node_failures=UNLIMITED,
            step_failures=UNLIMITED,
            join_timeout=join_timeout,
            last_call=seconds(parameters, "last_call_timeout", LAST_CALL),
            beat_timeout=beat_timeout,
            reconnect_grace=seconds(
                parameters, "reconnect_grace", min(RECONNECT_GRACE, beat_timeout)
            ),
            leader_grace=seconds(
                parameters, "leader_grace", max(LEADER_GRACE, least, beat_timeout)
            ),
            boundary_timeout=seconds(parameters, "boundary_timeout", usual.boundary_timeout),
            grow_interval=seconds(parameters, "grow_interval", usual.grow_interval),
            wait=join_timeout,
        )
    except ValueError as error:
        raise ConfigurationError(f"--rdzv-conf or --nnodes: {error}") from error
    timeouts.check(spec)
    return spec


def _count(parameters: RendezvousParameters, name: str, default: int) -> int:
    said = str(parameters.get(name, default))
    if not said.isdecimal() or int(said) > UNLIMITED:
        raise ConfigurationError(f"--rdzv-conf: {name}={said} is not a number up to {UNLIMITED}")
    return int(said)
