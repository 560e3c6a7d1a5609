"""Renews leases from a thread. Blocking calls, for grpc's event loops don't mix within a process:
each takes the other's answers off the one queue that they share."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import grpc

from rendezvous.errors import LeaseLost, StoreError, StoreUnavailable
from rendezvous.etcd.access import Access
from rendezvous.etcd.cluster import Cluster
from rendezvous.etcd.endpoint import NO_LOGIN, PAUSE, REQUIRE_LEADER, Metadata, options
from rendezvous.etcd.methods import AUTHENTICATE, KEEP_ALIVE
from rendezvous.etcd.verdict import Verdict, judge
from rendezvous.wire import etcd_pb2 as wire


class EtcdRenewer:
    """Asks one member until it fails, then the next. `attempt` is in seconds, for one answer, and
    `connect` for a connection.

    `endpoints` gives those of now, which change; `cluster` knows who is asked for the lease, which
    no other cluster has; `access` gives what is to be shown by now.
    """

    def __init__(
        self,
        endpoints: Callable[[], Sequence[str]],
        access: Callable[[], Access],
        *,
        attempt: float,
        connect: float,
        cluster: Cluster,
    ) -> None:
        self._endpoints = endpoints
        self._address = endpoints()[0]
        """The member in use."""
        self._access, self._cluster = access, cluster
        self._attempt, self._connect = attempt, connect
        self._channel: grpc.Channel | None = None
        self._token = ""

    def renew(self, lease: int, within: float) -> float:
        """Raises LeaseLost, StoreUnavailable, StoreRefused."""
        deadline = time.monotonic() + within
        failure = "no time left"
        while (left := deadline - time.monotonic()) > 0:
            try:
                connect = self._connect if self._channel is None else 0.0
                return self._ask(lease, min(connect + self._attempt, left))
            except StoreUnavailable as error:
                failure = str(error)
                self._next()
                time.sleep(random.uniform(*PAUSE))
            except grpc.RpcError as error:
                verdict = judge(error.code(), error.details() or "")
                self._token = ""
                if isinstance(verdict, StoreError):
                    raise verdict from error
                failure = f"{self._address}: {error.details()}"
                if verdict is not Verdict.STALE_TOKEN:
                    self._next()
                time.sleep(random.uniform(*PAUSE))
        raise StoreUnavailable(f"lease {lease:x} was not renewed: {failure}")

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _ask(self, lease: int, timeout: float) -> float:
        channel = self._open()
        keep_alive = channel.stream_stream(
            KEEP_ALIVE.path,
            KEEP_ALIVE.request.SerializeToString,
            KEEP_ALIVE.response.FromString,
        )
        request = wire.LeaseKeepAliveRequest(ID=lease)
        metadata = self._metadata(timeout)
        ttl = 0
        for answer in keep_alive(iter([request]), timeout=timeout, metadata=metadata):
            if answer.header.cluster_id not in (0, self._cluster.home):
                raise StoreUnavailable(f"{self._address}: of another cluster")
            ttl = answer.TTL
        if ttl <= 0:
            raise LeaseLost(f"lease {lease:x} has run out or was never granted")
        return float(ttl)

    def _open(self) -> grpc.Channel:
        if self._channel is None:
            address = self._address
            credentials = self._access().credentials()
            self._channel = (
                grpc.insecure_channel(address, options=options(self._connect))
                if credentials is None
                else grpc.secure_channel(address, credentials, options=options(self._connect))
            )
        return self._channel

    def _next(self) -> None:
        self.close()
        known = self._endpoints()
        at = known.index(self._address) + 1 if self._address in known else 0
        self._address = known[at % len(known)]

    def _metadata(self, timeout: float) -> Metadata:
        access = self._access()
        if access.user is None:
            return REQUIRE_LEADER
        if not self._token:
            authenticate = self._open().unary_unary(
                AUTHENTICATE.path,
                AUTHENTICATE.request.SerializeToString,
                AUTHENTICATE.response.FromString,
            )
            request = wire.AuthenticateRequest(name=access.user, password=access.password)
            try:
                answer = authenticate(request, timeout=timeout, metadata=REQUIRE_LEADER)
            except grpc.RpcError as error:
                if NO_LOGIN in (error.details() or ""):
                    return REQUIRE_LEADER
                raise
            self._token = answer.token
        return (*REQUIRE_LEADER, ("token", self._token))
