"""Calls that end: by an answer, or by a typed error within the deadline, whichever member fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import grpc.aio

from rendezvous.complaints import Complaints
from rendezvous.errors import (
    ConfigurationError,
    NotAuthenticated,
    OutcomeUnknown,
    PermissionDenied,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from rendezvous.etcd.access import Access
from rendezvous.etcd.deadlines import Deadlines
from rendezvous.etcd.discovery import EVERY, Discovery
from rendezvous.etcd.endpoint import NO_LOGIN, REQUIRE_LEADER, Endpoint, Metadata, pause_after
from rendezvous.etcd.introductions import Introductions
from rendezvous.etcd.methods import AUTHENTICATE, Method, Request, Response
from rendezvous.etcd.renewer import EtcdRenewer
from rendezvous.etcd.roster import Roster
from rendezvous.etcd.verdict import Verdict, hint, judge
from rendezvous.supervision import logged, start_task
from rendezvous.wire import etcd_pb2 as wire

log = logging.getLogger(__name__)

LASTING = (StoreFull, NotAuthenticated, PermissionDenied)
"""Refusals of one write that hold for the next one as well."""
AT_LEISURE, IN_NEED = 30.0, 1.0
"""Seconds after which files are read again: while all is well, and when a call has failed."""
FILES = "files"
"""What is complained of while one of them can't be read."""
UNREACHABLE = "etcd"
"""What is complained of while no endpoint answers."""


class Connection:
    """The members of one cluster, of which one is used until it fails; then the next is.

    `endpoints` are host:port. One that turns out to belong to another cluster is left out; with
    `learn`, other members of the cluster are used too. Raises ConfigurationError when there are
    none.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        access: Access | None = None,
        deadlines: Deadlines | None = None,
        read_access: Callable[[], Access] | None = None,
        learn: bool = True,
    ) -> None:
        if not endpoints:
            raise ConfigurationError("etcd: no endpoint is given")
        self._access = access or Access()
        self.deadlines = deadlines or Deadlines()
        self._roster = Roster([self._endpoint(address) for address in endpoints])
        self._token = ""
        self._without_login = False
        """Whether etcd has said that it asks nobody for a name."""
        self._read_access = read_access
        self._read_at = 0.0
        """When the files were read last."""
        self._renewing = asyncio.Lock()
        self.introductions = Introductions(self._roster.given, self._access, self.deadlines)
        """Which of them belong together."""
        self._discovery = Discovery(
            self._roster,
            self.introductions.cluster,
            self.deadlines,
            make=self._endpoint,
            tls=self._tls,
        )
        self._learns = learn
        self._looking: asyncio.Task[None] | None = None
        """Asks for the members of the cluster."""
        self._looked_at = float("-inf")
        """When that began last."""
        self._complaints = Complaints()
        self._silent = ""
        """Why no endpoint answers; empty when one did."""
        self._refused: StoreRefused | None = None
        """The last thing that etcd would not do and that concerns all of the kind."""
        self.closed = False

    def renewer(self) -> EtcdRenewer:
        """For another thread, on a connection of its own; it begins with the member in use."""
        return EtcdRenewer(
            self._roster.addresses,
            lambda: self._access,
            attempt=self.deadlines.attempt,
            connect=self.deadlines.connect,
            cluster=self.introductions.cluster,
        )

    @property
    def _tls(self) -> bool:
        return self._access.secure

    @property
    def current(self) -> Endpoint:
        return self._roster.current

    def addresses(self) -> tuple[str, ...]:
        """Of all endpoints, beginning with the one in use."""
        return self._roster.addresses()

    def leave(self, failed: Endpoint) -> None:
        """Use the next endpoint, unless another call has seen to it already."""
        self._roster.leave(failed)

    def pause_after(self, failures: int) -> float:
        """Seconds until the next attempt, after so many in a row that failed."""
        return pause_after(failures, len(self._roster.all))

    async def call(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        authenticated: bool = True,
    ) -> Response:
        """Ask one member after the other until one answers.

        Raises StoreUnavailable when none did within `deadlines.call`, OutcomeUnknown when one was
        asked for what is not repeatable and may have done it, and StoreRefused or LeaseLost when
        one said so.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.deadlines.call
        failures: list[str] = []
        renewed = False
        self._read_again(loop.time(), AT_LEISURE)
        while (left := deadline - loop.time()) > 0:
            self.require_open()
            endpoint = self.current
            if not await endpoint.reach(min(self.deadlines.connect, left)):
                failures.append(f"{endpoint.address}: {self.deadlines.no_connection}")
                self.leave(endpoint)
                continue
            left = max(deadline - loop.time(), 0.001)
            if problem := await self.introductions.problem(endpoint, left):
                failures.append(f"{endpoint.address}: {problem}")
                self.leave(endpoint)
                self._read_again(loop.time(), IN_NEED)
                # Where nobody's cluster is known yet, all of them were asked for it.
                asked = 1 if self.introductions.cluster.home else len(self._roster.given)
                await asyncio.sleep(self.pause_after(asked * len(failures)))
                continue
            metadata = await self.metadata() if authenticated else REQUIRE_LEADER
            left = max(deadline - loop.time(), 0.001)
            try:
                answer = await endpoint.ask(
                    method, request, timeout=min(self.deadlines.attempt, left), metadata=metadata
                )
                if problem := await self._stranger(endpoint, answer.header.cluster_id):
                    # What was done was done there.
                    verdict: Verdict | StoreError = Verdict.UNCERTAIN
                    why = f"{endpoint.address}: {problem}"
                else:
                    self._done(method.repeatable)
                    self._look_around(endpoint, metadata, loop.time())
                    return answer
            except grpc.aio.AioRpcError as error:
                verdict = judge(error.code(), error.details() or "")
                text = f"{error.code().name}: {error.details()}"
                why = f"{endpoint.address}: {text}{hint(text, tls=self._tls)}"
            if self._may_log_in(verdict) and authenticated and not renewed:
                renewed = True
                await self.renew_token(metadata)
                continue
            if isinstance(verdict, StoreError):
                raise self._told(verdict)
            self._read_again(loop.time(), IN_NEED)
            failures.append(why)
            self.leave(endpoint)
            if verdict is Verdict.UNCERTAIN and not method.repeatable:
                raise OutcomeUnknown(f"{method.path}: {why}")
            await asyncio.sleep(self.pause_after(len(failures)))
        raise self._unavailable(method.path, failures, loop.time())

    def _unavailable(self, path: str, failures: Sequence[str], now: float) -> StoreUnavailable:
        told = "; ".join(dict.fromkeys(failures[-2 * len(self._roster.all) :])) or "no time left"
        self._silent = f"etcd does not answer: {told}"
        if self._complaints.due(UNREACHABLE, now):
            log.warning("%s", self._silent)
        return StoreUnavailable(f"{path}: not within {self.deadlines.call:g} s: {told}")

    @property
    def trouble(self) -> str:
        """What is the matter with the store now; empty when nothing is."""
        return self._silent or ("" if self._refused is None else str(self._refused))

    def _told(self, error: StoreError) -> StoreError:
        """An error that is about to be raised: etcd has answered."""
        self._done(True)
        if isinstance(error, LASTING):
            self._refused = error
        return error

    def _done(self, repeatable: bool) -> None:
        """Something was answered; what was done was a read, or a write."""
        self._silent = ""
        if self._complaints.over(UNREACHABLE):
            log.info("etcd answers again")
        if not repeatable:
            self._refused = None

    async def _stranger(self, endpoint: Endpoint, cluster: int) -> str:
        """Why an answer of that cluster is not to be believed: the address has become another's."""
        if not self.introductions.differs(endpoint, cluster):
            return ""
        return await self.introductions.problem(endpoint, self.deadlines.attempt)

    async def metadata(self) -> Metadata:
        """What goes with every call. Raises NotAuthenticated, StoreUnavailable."""
        if self._access.user is None or self._without_login:
            return REQUIRE_LEADER
        if not self._token:
            await self.renew_token(())
        return (*REQUIRE_LEADER, ("token", self._token)) if self._token else REQUIRE_LEADER

    def _may_log_in(self, verdict: Verdict | StoreError) -> bool:
        """Whether the same with a fresh token may do: a token has run out, or authentication was
        switched on."""
        refused = isinstance(verdict, NotAuthenticated)
        return verdict is Verdict.STALE_TOKEN or (refused and self._access.user is not None)

    async def renew_token(self, stale: Metadata) -> None:
        """Replace the token that `stale` carries, once for all who noticed."""
        async with self._renewing:
            if self._token and ("token", self._token) not in stale:
                return
            try:
                try:
                    self._token = await self._log_in()
                except NotAuthenticated:
                    if not self._read_again(asyncio.get_running_loop().time(), 0.0):
                        raise
                    self._token = await self._log_in()
                self._without_login = False
            except StoreRefused as error:
                if NO_LOGIN not in str(error):
                    raise
                self._token, self._without_login = "", True

    async def _log_in(self) -> str:
        """A fresh token."""
        login = wire.AuthenticateRequest(name=self._access.user, password=self._access.password)
        return (await self.call(AUTHENTICATE, login, authenticated=False)).token

    def _read_again(self, now: float, every: float) -> bool:
        """Read the files again, if that was `every` seconds ago; whether something has changed."""
        if self._read_access is None or now - self._read_at < every:
            return False
        self._read_at = now
        try:
            access = self._read_access()
        except ConfigurationError as error:
            # Somebody is about to replace it, perhaps.
            if self._complaints.due(FILES, now):
                log.warning("etcd: what was read before is used on: %s", error)
            return False
        self._complaints.over(FILES)
        if access == self._access:
            return False
        log.info("etcd: the password or certificates have changed, and are used from now on")
        if not access.same_tls(self._access):
            for endpoint in self._roster.all:
                endpoint.show(access.credentials())
        self._access = self.introductions.access = access
        self._token = ""
        return True

    def require_open(self) -> None:
        if self.closed:
            raise StoreUnavailable("the etcd client is closed")

    async def close(self) -> None:
        self.closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await self._roster.close()

    def _endpoint(self, address: str) -> Endpoint:
        access = self._access
        return Endpoint(address, access.credentials(), connect=self.deadlines.connect)

    def _look_around(self, teller: Endpoint, metadata: Metadata, now: float) -> None:
        """Who has just answered is asked for the members, if it is time."""
        if self._learns and now - self._looked_at > EVERY:
            if self._looking is not None and not self._looking.done():
                return
            self._looked_at = now
            looking = self._discovery.look(teller, metadata, now)
            self._looking = start_task(looking, name="etcd's members", failed=logged)
