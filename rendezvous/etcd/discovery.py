"""Keeps the list of endpoints up with the cluster: members come and go, and a list ages.

What a member says is looked at before it is believed: only who answers here, over a connection of
the same kind, as a voting member of the cluster that is meant, gets into the list.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import grpc.aio

from rendezvous.complaints import Complaints
from rendezvous.errors import StoreError
from rendezvous.etcd.cluster import Cluster
from rendezvous.etcd.deadlines import Deadlines
from rendezvous.etcd.endpoint import Endpoint, Metadata
from rendezvous.etcd.members import addresses
from rendezvous.etcd.methods import MEMBERS, STATUS
from rendezvous.etcd.roster import Roster
from rendezvous.wire import etcd_pb2 as wire

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds after which the members are asked for again: well below the time in which an operator
replaces all of them, one after the other."""
UNKNOWN, AGED = "members", "list"
"""What is complained of while the members can't be learnt; while no endpoint given is one."""


class Discovery:
    """`make` gives an endpoint for an address; `tls` is what all of them speak."""

    def __init__(
        self,
        roster: Roster,
        cluster: Cluster,
        deadlines: Deadlines,
        *,
        make: Callable[[str], Endpoint],
        tls: bool,
    ) -> None:
        self._roster, self._cluster, self._deadlines = roster, cluster, deadlines
        self._make, self._tls = make, tls
        self._complaints = Complaints()

    async def look(self, teller: Endpoint, metadata: Metadata, now: float) -> None:
        """Ask one member for all, and take those into the list that answer."""
        try:
            answer = await teller.ask(
                MEMBERS,
                wire.MemberListRequest(),
                timeout=self._deadlines.attempt,
                metadata=metadata,
            )
        except (grpc.aio.AioRpcError, StoreError) as error:
            # Newer ones tell it to their root alone.
            why = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
            if self._complaints.due(UNKNOWN, now):
                log.debug("etcd: %s does not name the members: %s", teller.address, why)
            return
        if not self._cluster.at_home(teller.address):
            return
        self._complaints.over(UNKNOWN)
        named = addresses(answer.members, tls=self._tls, teller=teller.address)
        given = {endpoint.address for endpoint in self._roster.given}
        learnt: dict[str, Endpoint] = {}
        for address in named:
            if address in given:
                continue
            known = self._roster.learnt.get(address)
            if known is not None:
                learnt[address] = known
            elif (found := await self._found(address)) is not None:
                learnt[address] = found
        before = self._roster.learnt.keys()
        if learnt.keys() != before:
            log.info("etcd: besides the endpoints given, these are used: %s", _list(learnt))
        for gone in self._roster.learn(learnt):
            await gone.close()
        self._tell_of_age(named, given, now)

    async def _found(self, address: str) -> Endpoint | None:
        """The endpoint, if it is a voting member of the cluster that is meant."""
        endpoint = self._make(address)
        try:
            if await endpoint.reach(self._deadlines.connect):
                answer = await endpoint.ask(
                    STATUS, wire.StatusRequest(), timeout=self._deadlines.attempt, metadata=()
                )
                if answer.header.cluster_id == self._cluster.home and not answer.isLearner:
                    self._cluster.hear(address, answer.header.cluster_id)
                    return endpoint
        except (grpc.aio.AioRpcError, StoreError) as error:
            log.debug("etcd: %s is no way to a member: %s", address, error)
        await endpoint.close()
        return None

    def _tell_of_age(self, named: Sequence[str], given: set[str], now: float) -> None:
        """The next start begins with the list that was given."""
        if not self._roster.learnt or given & set(named):
            self._complaints.over(AGED)
        elif self._complaints.due(AGED, now):
            log.warning(
                "etcd: none of the endpoints given is named by the cluster any more; it names %s: "
                "change the list before this is started again",
                _list(named),
            )


def _list(names: Sequence[str] | dict[str, Endpoint]) -> str:
    return ", ".join(sorted(names)) or "none"
