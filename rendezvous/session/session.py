"""What an agent holds: it joins, beats, hears of generations, reports, drains, leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from rendezvous.bounds import MAX_TEXT
from rendezvous.codec import BEAT
from rendezvous.errors import ConfigurationError, MessageError
from rendezvous.membership.spec import JobSpec
from rendezvous.outside.echo import plain
from rendezvous.security import Security
from rendezvous.session.channels import Channels
from rendezvous.session.events import SessionEvent
from rendezvous.session.identity import NodeIdentity
from rendezvous.session.protocol import SessionProtocol
from rendezvous.supervision import awaited, call_later, start_task
from rendezvous.timeouts import Timeouts
from rendezvous.wire import rendezvous_pb2 as wire

log = logging.getLogger(__name__)

ATTEND = "/remesh.rendezvous.v1.Rendezvous/Attend"

_Call = grpc.aio.StreamStreamCall[bytes, bytes]


class Session:
    """One node's attendance of one job, kept over any number of broken connections.

    An async context manager. Reports return at once; they are kept and sent again until a service
    has them. A lost service is told as `Disconnected` and ends nothing.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        run_id: str,
        node: NodeIdentity,
        spec: JobSpec,
        security: Security | None = None,
        timeouts: Timeouts | None = None,
        channels: Channels | None = None,
        heard: int = 0,
        read_security: Callable[[], Security] | None = None,
    ) -> None:
        """`endpoints` are host:port of any of the services; `channels` may be shared by sessions.
        `heard` is the number of the last generation known from an earlier start of the job: a
        service that has forgotten the job counts on from there. `read_security` reads `security`
        anew before each connection: files change. It may raise ConfigurationError.

        Raises ConfigurationError when there is no endpoint or the times don't fit together.
        """
        self._timeouts = timeouts or Timeouts()
        self._timeouts.check(spec)
        if not endpoints:
            raise ConfigurationError("a session needs the address of at least one service")
        self._security = security or Security()
        self._read_security = read_security
        self._unread = ""
        """Why a file could not be read anew; empty when all could."""
        self._channels = channels or Channels(security)
        self._owns_channels = channels is None
        self._beat = self._timeouts.beat(spec)
        self._protocol = SessionProtocol(
            endpoints,
            run_id=run_id,
            node=node,
            spec=spec,
            timeouts=self._timeouts,
            resume_key=secrets.token_bytes(16),
            rng=random.Random(),
            now=time.monotonic(),
            heard=heard,
        )
        self._events: asyncio.Queue[SessionEvent | None] = asyncio.Queue()
        self._outgoing: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Session:
        self._task = start_task(self._attend_for_good(), name="rendezvous session", failed=awaited)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.flush()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._owns_channels:
            await self._channels.close()

    async def events(self) -> AsyncIterator[SessionEvent]:
        """What happens, in order; ends after `JobEnded` or a final `Refused`. For one reader.

        Raises what made the session itself fail, if anything did.
        """
        while True:
            event = await self._events.get()
            if event is None:
                break
            yield event
        if self._task is not None:
            await self._task

    # Reports

    async def listening(self, generation: int, *, store_endpoint: str) -> None:
        """The agent has opened the socket for the store of the generation after this one."""
        body = wire.Listening(generation=generation, store_endpoint=store_endpoint)
        self._report(wire.AgentMessage(listening=body), store_endpoint)

    async def running(self, generation: int, *, store_endpoint: str = "") -> None:
        """All workers of the node are inside the generation and have their state."""
        body = wire.Running(generation=generation, store_endpoint=store_endpoint)
        self._report(wire.AgentMessage(running=body), store_endpoint)

    async def left(
        self,
        generation: int,
        *,
        version: int,
        store_endpoint: str = "",
        cause: str = "",
        stepped: bool = False,
    ) -> None:
        """The node's workers are out of the generation at `version` and can enter the next.

        `cause` says why when nobody had asked them to leave; `stepped`, whether a step was done on
        the node since its agent began.
        """
        body = wire.Left(
            generation=generation,
            version=version,
            store_endpoint=store_endpoint,
            cause=plain(cause, MAX_TEXT),
            stepped=stepped,
        )
        self._report(wire.AgentMessage(left=body), store_endpoint)

    async def worker_failed(
        self,
        generation: int,
        *,
        rank: int,
        exit_code: int | None,
        signal: int | None,
        step: int,
        cause: str,
        store_endpoint: str = "",
        error: str = "",
        whole: bool = False,
    ) -> None:
        """A worker ended or was replaced; `rank` is global, `step` is -1 outside of steps.

        At most one of `exit_code` and `signal` is given: how the process ended by itself. `error`
        is the same for ranks that fail alike before the first step, empty where it may pass;
        `whole`: all ranks of the node failed with it.
        """
        body = wire.WorkerFailed(
            generation=generation,
            rank=rank,
            exit_code=exit_code,
            signal=signal,
            step=step,
            cause=plain(cause, MAX_TEXT),
            store_endpoint=store_endpoint,
            error=plain(error, MAX_TEXT),
            whole=whole,
        )
        self._report(wire.AgentMessage(worker_failed=body), store_endpoint)

    async def drain(self, *, grace: float, reason: str) -> None:
        """The node has to be gone in `grace` seconds; `DrainDone` says when it may go."""
        body = wire.DrainNotice(grace=grace, reason=plain(reason, MAX_TEXT))
        self._report(wire.AgentMessage(drain=body))

    async def finished(
        self, generation: int, *, status: str, reason: str = "", whole: bool = False
    ) -> None:
        """The node's workers are done with the job: `status` is completed, stopped or failed.

        `whole`: all ranks of the generation, on all nodes, have agreed on that.
        """
        body = wire.Finished(
            generation=generation, status=status, reason=plain(reason, MAX_TEXT), whole=whole
        )
        self._report(wire.AgentMessage(finished=body))

    async def leave(self, reason: str = "") -> None:
        """The node goes at once. Waits until the service knows, at most `timeouts.shutdown`."""
        self._report(wire.AgentMessage(leave=wire.Leave(reason=plain(reason, MAX_TEXT))))
        await self.flush()

    def report(self, status: Mapping[str, str]) -> None:
        """A few words for `status`; they replace the earlier ones."""
        self._send(self._protocol.status(dict(status)))

    async def flush(self) -> bool:
        """Wait until the service has every report; False if not within `timeouts.shutdown`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeouts.shutdown):
                while not (self._protocol.settled or self._protocol.over):
                    self._settled.clear()
                    await self._settled.wait()
        return self._protocol.settled

    def _report(self, message: wire.AgentMessage, store_endpoint: str = "") -> None:
        self._send(self._protocol.report(message, store_endpoint))

    def _send(self, message: wire.AgentMessage) -> None:
        # While there is no stream nothing is queued: the next one opens with all that stands.
        if self._protocol.attending:
            self._outgoing.append(message.SerializeToString())
            self._wake.set()

    # The stream

    async def _attend_for_good(self) -> None:
        try:
            while not self._protocol.over:
                dial = self._protocol.dial(time.monotonic())
                await asyncio.sleep(dial.delay)
                await self._read_again()
                await self._attend(dial.endpoint)
                self._tell(self._protocol.lost(time.monotonic()))
        finally:
            self._settled.set()
            self._events.put_nowait(None)

    async def _read_again(self) -> None:
        """Show the token and the certificates of now; those of before while there are none."""
        if self._read_security is None:
            return
        try:
            fresh = self._read_security()
        except ConfigurationError as error:
            if str(error) != self._unread:
                log.warning("what was read before is used on: %s", error)
            self._unread = str(error)
            return
        self._unread = ""
        if fresh == self._security:
            return
        if self._owns_channels and not fresh.same_tls(self._security):
            await self._channels.show(fresh)
        self._security = fresh

    async def _attend(self, endpoint: str) -> None:
        attend = self._channels.get(endpoint).stream_stream(ATTEND, bytes, bytes)
        call: _Call = attend(None, metadata=self._security.metadata())
        now = time.monotonic()
        self._outgoing.clear()
        self._outgoing.extend(m.SerializeToString() for m in self._protocol.opening(now))
        # A stream that can't be written to, or has no beat, is given up for the next one.
        writer = start_task(self._write(call), name="reports", failed=lambda _error: call.cancel())
        self._beat_next(call)
        try:
            while not self._protocol.over:
                data = await call.read()
                if not isinstance(data, bytes):
                    break
                now = time.monotonic()
                self._tell(self._protocol.receive(wire.ServiceMessage.FromString(data), now))
                if self._protocol.settled:
                    self._settled.set()
        except grpc.aio.AioRpcError as error:
            log.debug("%s: %s: %s", endpoint, error.code().name, error.details())
            if self._owns_channels and not self._protocol.attending:
                await self._channels.drop(endpoint)
        except (DecodeError, MessageError) as error:
            log.warning("%s sent what cannot be read: %s", endpoint, error)
        except asyncio.CancelledError:
            # A silent service was given up; anything else is meant for this task.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            log.info("%s is silent", endpoint)
            if self._owns_channels:
                await self._channels.drop(endpoint)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            writer.cancel()
            call.cancel()

    async def _write(self, call: _Call) -> None:
        """Sends what is queued, in order."""
        try:
            while True:
                while self._outgoing:
                    await call.write(self._outgoing.popleft())
                self._wake.clear()
                await self._wake.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # The reader sees the same end and says why.

    def _beat_next(self, call: _Call) -> None:
        due = time.monotonic() + self._beat
        self._timer = call_later(
            self._beat, self._beat_now, call, due, failed=lambda _error: call.cancel()
        )

    def _beat_now(self, call: _Call, due: float) -> None:
        """Beat, and give up a service that is silent, even one that takes nothing any more."""
        now = time.monotonic()
        if now - due > self._beat:
            self._protocol.was_away(now - due)
        if self._protocol.silent(now):
            call.cancel()
            return
        # Beats that could not be sent need not pile up.
        if self._protocol.attending and not self._outgoing:
            self._outgoing.append(BEAT)
            self._wake.set()
        self._beat_next(call)

    def _tell(self, events: Sequence[SessionEvent]) -> None:
        for event in events:
            self._events.put_nowait(event)
