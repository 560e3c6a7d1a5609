"""The service on the network: gRPC, TLS, health, and the beginning and end of a replica."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from rendezvous.errors import ConfigurationError
from rendezvous.security import ServerSecurity, Tokens
from rendezvous.service.checks import MAX_MESSAGE_BYTES
from rendezvous.service.descriptors import room_for_streams
from rendezvous.service.files import LiveSecurity
from rendezvous.service.metrics import Metrics
from rendezvous.service.operators import operator_handlers, token_of
from rendezvous.service.service import MAX_STREAMS, Service
from rendezvous.store import MemoryStore, Store
from rendezvous.timeouts import Timeouts

log = logging.getLogger(__name__)

SERVICE_NAME = "remesh.rendezvous.v1.Rendezvous"
OPTIONS = (
    # A port that is taken is an error, not a shared one.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.keepalive_time_ms", 5_500),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(frozen=True, slots=True)
class Running:
    """A replica that answers. `endpoint` is where it listens, `advertise` what it tells others."""

    endpoint: str
    advertise: str
    service: Service


@asynccontextmanager
async def running(
    store: Store,
    *,
    listen: str,
    advertise: str | None = None,
    security: ServerSecurity | None = None,
    timeouts: Timeouts | None = None,
    insecure: bool = False,
    metrics: Metrics | None = None,
    handover: float = 1.0,
    introspection: bool = True,
    most_streams: int = MAX_STREAMS,
    read_security: Callable[[], ServerSecurity] | None = None,
) -> AsyncIterator[Running]:
    """One replica for the length of the block; port 0 takes a free one.

    At the end it hands over, waiting at most `handover` seconds for a successor to send its
    agents to. `read_security` reads `security` anew: files change. Raises ConfigurationError when
    it may not, or cannot, listen there.
    """
    security, timeouts = security or ServerSecurity(), timeouts or Timeouts()
    split_address(listen)
    security.check_listen(listen, insecure=insecure)
    server = grpc.aio.server(options=OPTIONS)
    live = LiveSecurity(security, read_security)
    port = _bind(server, listen, live)
    endpoint = f"{listen.rpartition(':')[0]}:{port}"
    address = advertise or _reachable(endpoint)
    service = Service(
        store,
        address=address,
        tokens=lambda: live.tokens,
        timeouts=timeouts,
        metrics=metrics or Metrics(),
        most_streams=most_streams,
    )
    handlers = {"Attend": grpc.stream_stream_rpc_method_handler(_attendance(service))}
    handlers.update(operator_handlers(service))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    if introspection:
        await _add_introspection(server)
    async with AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.stop, 0.5)
        await stack.enter_async_context(service.candidate.standing())
        stack.push_async_callback(service.leave, handover)
        yield Running(endpoint, address, service)


@asynccontextmanager
async def embedded(token: str, timeouts: Timeouts | None = None) -> AsyncIterator[str]:
    """A service inside this process, on the memory store and a free loopback port: its endpoint.

    Everybody on this machine reaches that port, and only who shows `token` is listened to.
    """
    async with running(
        MemoryStore(),
        listen="127.0.0.1:0",
        security=ServerSecurity(tokens=Tokens((token,))),
        timeouts=timeouts,
        handover=0.0,
        introspection=False,
    ) as replica:
        await replica.service.led.wait()
        yield replica.endpoint


async def serve(
    store: Store,
    *,
    listen: str,
    stop: asyncio.Event,
    advertise: str | None = None,
    security: ServerSecurity | None = None,
    timeouts: Timeouts | None = None,
    insecure: bool = False,
    metrics_listen: str | None = None,
    handover: float = 1.0,
    read_security: Callable[[], ServerSecurity] | None = None,
) -> None:
    """Serve until `stop` is set, then hand over. Raises ConfigurationError."""
    metrics = Metrics()
    if metrics_listen:
        host, port = split_address(metrics_listen)
        log.info("metrics on http://%s:%d/metrics", host, metrics.serve(host, port))
    room = room_for_streams(MAX_STREAMS)
    if room < MAX_STREAMS:
        log.info("room for %d agents; `ulimit -n` says how many files may be open", room)
    async with running(
        store,
        listen=listen,
        advertise=advertise,
        security=security,
        timeouts=timeouts,
        insecure=insecure,
        metrics=metrics,
        handover=handover,
        most_streams=room,
        read_security=read_security,
    ) as replica:
        log.info("listening on %s, known to others as %s", replica.endpoint, replica.advertise)
        await stop.wait()
        log.info("stopping")


def split_address(address: str) -> tuple[str, int]:
    """Raises ConfigurationError for what is not host:port."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"{address!r} is not HOST:PORT, such as 127.0.0.1:29400")
    return host.strip("[]"), int(port)


def _bind(server: grpc.aio.Server, listen: str, security: LiveSecurity) -> int:
    credentials = security.credentials()
    try:
        if credentials is None:
            return int(server.add_insecure_port(listen))
        return int(server.add_secure_port(listen, credentials))
    except RuntimeError as error:
        raise ConfigurationError(
            f"cannot listen on {listen}: the port is taken, the address is not this machine's, "
            "or the TLS certificate and key don't belong together"
        ) from error


def _reachable(endpoint: str) -> str:
    host, port = split_address(endpoint)
    return f"{socket.gethostname()}:{port}" if host in ("0.0.0.0", "::") else endpoint


def _attendance(service: Service) -> Any:
    async def attend(_requests: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await service.attend(context.read, context.write, token_of(context))

    return attend


async def _add_introspection(server: grpc.aio.Server) -> None:
    # Imported here: an embedded service starts without them.
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection

    # The stubs know nothing of it.
    servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in ("", SERVICE_NAME):
        # Every replica serves: one that does not lead tells who does.
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    names = (SERVICE_NAME, "grpc.health.v1.Health", reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
