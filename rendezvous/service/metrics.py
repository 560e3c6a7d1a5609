"""What a service tells Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from rendezvous.errors import ConfigurationError


class Metrics:
    """One registry for each service, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sent = Counter(
            "remesh_rendezvous_messages_sent", "Messages to agents", registry=self.registry
        )
        self._received = Counter(
            "remesh_rendezvous_messages_received",
            "Messages from agents, by kind",
            ["kind"],
            registry=self.registry,
        )
        self._rejected = Counter(
            "remesh_rendezvous_messages_rejected",
            "Messages that broke the rules",
            registry=self.registry,
        )
        self._writes = Histogram(
            "remesh_rendezvous_store_write_seconds",
            "Fenced writes, outages included",
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )
        self._streams = Gauge(
            "remesh_rendezvous_streams", "Agents attending", registry=self.registry
        )
        self._jobs = Gauge("remesh_rendezvous_jobs", "Jobs under care", registry=self.registry)
        self._leading = Gauge(
            "remesh_rendezvous_leading", "1 while this replica leads", registry=self.registry
        )
        self._generation = Gauge(
            "remesh_rendezvous_generation",
            "A job's last generation",
            ["run_id"],
            registry=self.registry,
        )

    def sent(self, count: int) -> None:
        self._sent.inc(count)

    def received(self, kind: str) -> None:
        self._received.labels(kind).inc()

    def beats(self, count: int) -> None:
        self._received.labels("beat").inc(count)

    def rejected(self) -> None:
        self._rejected.inc()

    def streams(self, count: int) -> None:
        self._streams.set(count)

    def jobs(self, count: int) -> None:
        self._jobs.set(count)

    def leading(self, leading: bool) -> None:
        self._leading.set(leading)

    def generation(self, run_id: str, number: int) -> None:
        self._generation.labels(run_id).set(number)

    def forget(self, run_id: str) -> None:
        self._generation.remove(run_id)

    @contextmanager
    def store_write(self) -> Iterator[None]:
        with self._writes.time():
            yield

    def serve(self, host: str, port: int) -> int:
        """Answer GET /metrics in a thread; returns the port. Ends with the process."""
        try:
            server, _thread = start_http_server(port, host, registry=self.registry)
        except OSError as error:
            raise ConfigurationError(
                f"cannot serve metrics on {host}:{port}: {error.strerror}"
            ) from error
        return int(server.server_port)
