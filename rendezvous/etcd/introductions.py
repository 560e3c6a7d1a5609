"""Asks endpoints for their cluster before they are asked for anything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import grpc.aio

from rendezvous.complaints import Complaints
from rendezvous.etcd.access import Access
from rendezvous.etcd.cluster import MARK, Cluster, decode_mark
from rendezvous.etcd.deadlines import Deadlines
from rendezvous.etcd.endpoint import Endpoint, Metadata
from rendezvous.etcd.methods import AUTHENTICATE, RANGE, STATUS
from rendezvous.etcd.verdict import LEARNER, hint
from rendezvous.supervision import awaited, start_task
from rendezvous.wire import etcd_pb2 as wire

log = logging.getLogger(__name__)

NOT_ASKED = "it was not asked yet"


class Introductions:
    """Who of `endpoints` belongs to the cluster that is meant."""

    def __init__(self, endpoints: Sequence[Endpoint], access: Access, deadlines: Deadlines) -> None:
        self.cluster = Cluster([endpoint.address for endpoint in endpoints])
        """What they have said."""
        self._endpoints = tuple(endpoints)
        self.access = access
        """What is shown to them; its owner sets another."""
        self._deadlines = deadlines
        self._asking = asyncio.Lock()
        """One asks for all who want to know."""
        self._complaints = Complaints()
        self._learners: set[str] = set()
        """Endpoints that said of themselves that they are."""

    def differs(self, endpoint: Endpoint, cluster: int) -> bool:
        """Whether an answer comes from another cluster than the one meant; that is remembered."""
        before = self.cluster.home
        if cluster in (0, before):
            return False
        self.cluster.hear(endpoint.address, cluster)
        self._tell_if_moved(before)
        return not self.cluster.at_home(endpoint.address)

    async def problem(self, endpoint: Endpoint, within: float) -> str:
        """Why the endpoint is not to be used; empty when it belongs to the cluster that is meant.

        Ends within so many seconds.
        """
        if self._usable(endpoint.address):
            return ""
        try:
            async with asyncio.timeout(within), self._asking:
                return await self._find_out(endpoint)
        except TimeoutError:
            return "it does not say which cluster it belongs to"

    async def _find_out(self, endpoint: Endpoint) -> str:
        cluster, address, before = self.cluster, endpoint.address, self.cluster.home
        if self._usable(address):
            return ""
        silent = await self._ask(endpoint) if before else (await self._ask_all())[address]
        self._tell_if_moved(before)
        if self._usable(address):
            self._complaints.over(address)
            return ""
        if silent:
            return silent
        why = LEARNER if cluster.at_home(address) else cluster.refusal(address)
        if self._complaints.due(address, asyncio.get_running_loop().time()):
            log.warning("etcd: %s is not used: %s", address, why)
        return why

    def _usable(self, address: str) -> bool:
        return self.cluster.at_home(address) and address not in self._learners

    def _tell_if_moved(self, before: int) -> None:
        home = self.cluster.home
        if before not in (0, home):
            log.warning("etcd was restored or replaced: cluster %x is %x now", before, home)

    async def _ask_all(self) -> dict[str, str]:
        """Ask them all at once, until enough have answered. Why each did not, by address."""
        problems = {endpoint.address: NOT_ASKED for endpoint in self._endpoints}

        async def ask(endpoint: Endpoint) -> None:
            problems[endpoint.address] = await self._ask(endpoint)

        asking = {
            start_task(ask(endpoint), name="an endpoint's cluster", failed=awaited)
            for endpoint in self._endpoints
        }
        try:
            while asking and not self.cluster.home:
                done, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in asking:
                task.cancel()
        self.cluster.settle()
        return problems

    async def _ask(self, endpoint: Endpoint) -> str:
        """Ask one for its cluster; if that is not the one meant, for the record in its store too.

        Why it did not answer; empty if it did.
        """
        if not await endpoint.reach(self._deadlines.connect):
            return self._deadlines.no_connection
        try:
            answer = await endpoint.ask(
                STATUS, wire.StatusRequest(), timeout=self._deadlines.attempt, metadata=()
            )
            self.cluster.hear(endpoint.address, answer.header.cluster_id)
            self._learners.discard(endpoint.address)
            if answer.isLearner:
                self._learners.add(endpoint.address)
            if self.cluster.is_open(endpoint.address):
                await self._read_mark(endpoint)
        except grpc.aio.AioRpcError as error:
            text = f"{error.code().name}: {error.details()}"
            return text + hint(text, tls=self.access.secure)
        return ""

    async def _read_mark(self, endpoint: Endpoint) -> None:
        """As one member alone knows it: there may be no leader."""
        attempt = self._deadlines.attempt
        metadata: Metadata = ()
        if self.access.user is not None:
            login = wire.AuthenticateRequest(name=self.access.user, password=self.access.password)
            # Where nobody is asked for a name, the next call says whether it was in vain.
            with suppress(grpc.aio.AioRpcError):
                answer = await endpoint.ask(AUTHENTICATE, login, timeout=attempt, metadata=())
                metadata = (("token", answer.token),)
        request = wire.RangeRequest(key=MARK.encode(), serializable=True)
        found = await endpoint.ask(RANGE, request, timeout=attempt, metadata=metadata)
        mark = decode_mark(found.kvs[0].value) if found.kvs else 0
        self.cluster.read(endpoint.address, mark)
