"""One replica of the service: the jobs it leads, the streams it holds, what it answers."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence

from rendezvous.codec import BEAT
from rendezvous.complaints import Complaints
from rendezvous.errors import MessageError, StoreError
from rendezvous.outside.echo import shown
from rendezvous.security import Tokens
from rendezvous.service import checks
from rendezvous.service.actions import Action
from rendezvous.service.door import Door
from rendezvous.service.forgetting import AT_ONCE, Standing, forgettable, sorted_out
from rendezvous.service.job import Job
from rendezvous.service.keeper import Keeper
from rendezvous.service.leading import Candidate
from rendezvous.service.metrics import Metrics
from rendezvous.service.outbox import Outbox
from rendezvous.service.pace import look_interval, pulse_interval
from rendezvous.service.records import JOBS, decode_stored, job_key, run_id_of
from rendezvous.service.refusals import Refusals
from rendezvous.store import Delete, Leadership, Store
from rendezvous.supervision import awaited, logged, start_task
from rendezvous.timeouts import Timeouts
from rendezvous.wire import rendezvous_pb2 as wire

log = logging.getLogger(__name__)

MAX_JOBS = 1000
"""Jobs that go on; how many ended ones are remembered beside them, `forgetting` says."""
MAX_STREAMS = 1 << 16
MAX_OFFENCES = 10
MAX_NODES_OF_A_JOB = 20_000
RETRY_MS = 200
HOUSEKEEPING = 0.25
FIRST_MESSAGE = 20.0

LARGE_MESSAGE = 16 << 10
LARGE_AT_ONCE = 64

Read = Callable[[], Awaitable[object]]
"""Gives the next message as bytes, or something else at the end."""
Send = Callable[[bytes], Awaitable[None]]


class Service:
    """Needs a running event loop. `address` is where agents and other replicas reach it; `tokens`
    gives those that open jobs by now."""

    def __init__(
        self,
        store: Store,
        *,
        address: str,
        tokens: Callable[[], Tokens],
        timeouts: Timeouts,
        metrics: Metrics,
        most_streams: int = MAX_STREAMS,
    ) -> None:
        self.address = address
        self.metrics = metrics
        self._store = store
        self._tokens = tokens
        self._timeouts = timeouts
        self._most_streams = most_streams
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._outboxes: dict[int, Outbox] = {}
        self._keepers: dict[str, Keeper] = {}
        self._beats = 0
        self._attending: dict[int, Keeper] = {}
        self._door = Door()
        self._turns = asyncio.Semaphore(LARGE_AT_ONCE)
        self._unreadable: dict[str, str] = {}
        self._complaints = Complaints()
        """Of the store's refusals."""
        self._refusals = Refusals()
        """Of those who want to join."""
        self._leadership: Leadership | None = None
        self._leading_since = 0.0
        self._leaving = False
        self.led = asyncio.Event()
        """Set while this replica leads."""
        self.candidate = Candidate(store, address=address, lease=timeouts.lease, lead=self._lead)

    # Leading

    async def _lead(self, leadership: Leadership) -> None:
        try:
            await self._claim()
            await self._restore(leadership)
            self._leadership = leadership
            self._leading_since = self._loop.time()
            self.metrics.leading(True)
            self.led.set()
            await self._keep_house(leadership)
        finally:
            self._step_down()

    async def _claim(self) -> None:
        try:
            await self._store.claim()
        except StoreError as error:
            log.warning("cannot write down which store this is: %s", error)

    async def _restore(self, leadership: Leadership) -> None:
        while True:
            try:
                entries = (await self._store.list(JOBS)).entries
                break
            except StoreError as error:
                log.warning("cannot read the jobs yet: %s", error)
                await asyncio.sleep(HOUSEKEEPING)
        for entry in entries:
            run_id = run_id_of(entry.key)
            if run_id is None:
                log.warning("%s is no key of a job, and left alone", shown(entry.key))
                continue
            try:
                stored = decode_stored(entry.value)
            except ValueError as error:
                # Written by a later version, perhaps: it is left alone, and so is its job.
                log.error("%s can't be read, and its job is left alone: %s", entry.key, error)
                self._unreadable[run_id] = str(error)
                continue
            self._keep(run_id, leadership).restore(stored)

    def _keep(self, run_id: str, leadership: Leadership) -> Keeper:
        job = Job(
            run_id,
            service=self.address,
            pulse=self._timeouts.pulse,
            most_nodes=MAX_NODES_OF_A_JOB,
        )
        keeper = Keeper(
            job, leadership, self._outboxes, self.metrics, self._complaints, self._refusals
        )
        self._keepers[run_id] = keeper
        return keeper

    def _step_down(self) -> None:
        self._leadership = None
        self.led.clear()
        self.metrics.leading(False)
        for run_id, keeper in self._keepers.items():
            keeper.close()
            self.metrics.forget(run_id)
        self._keepers.clear()
        self._unreadable.clear()
        if not self._leaving:
            self._send_away(self._redirect("the leader has changed"))

    async def leave(self, wait: float) -> None:
        """Hand over: let another lead, wait for its address, and send the agents there."""
        self._leaving = True
        held = bool(self._outboxes)
        await self.candidate.withdraw()
        successor = await self.candidate.successor(wait) if held and wait else ""
        redirect = wire.Redirect(
            leader=successor, retry_ms=RETRY_MS, reason="this service is stopping"
        )
        self._send_away(redirect)

    def _send_away(self, redirect: wire.Redirect) -> None:
        message = wire.ServiceMessage(redirect=redirect).SerializeToString()
        for outbox in self._outboxes.values():
            outbox.put(message, self._loop.time())
            outbox.close()

    def _redirect(self, reason: str) -> wire.Redirect:
        leader = self.candidate.leader
        return wire.Redirect(
            leader=leader if leader != self.address else "", retry_ms=RETRY_MS, reason=reason
        )

    async def _keep_house(self, leadership: Leadership) -> None:
        """Pulses, figures, and the end of jobs that nobody asks about any more."""
        forgetting: asyncio.Task[None] | None = None
        looked = float("-inf")
        try:
            while True:
                await asyncio.sleep(HOUSEKEEPING)
                now = self._loop.time()
                self._speak_unasked(now)
                if now - looked < look_interval(HOUSEKEEPING, len(self._keepers)):
                    continue
                looked = now
                ended = self._look_after_all(now)
                # In a task of its own: while the store is away, agents still hear from us.
                if forgetting is not None and forgetting.done():
                    forgetting.result()
                    forgetting = None
                if ended and forgetting is None:
                    forgetting = start_task(
                        self._forget(ended, leadership), name="forgetting", failed=awaited
                    )
        finally:
            if forgetting is not None:
                forgetting.cancel()

    def _speak_unasked(self, now: float) -> None:
        """To who waits for a word."""
        interval = pulse_interval(self._timeouts.pulse, len(self._outboxes))
        pulse = wire.ServiceMessage(pulse=wire.Pulse(next_ms=int(1000 * interval)))
        message = pulse.SerializeToString()
        for outbox in self._outboxes.values():
            if now - outbox.spoke > outbox.promise - HOUSEKEEPING:
                outbox.put(message, now)
                outbox.promise = interval

    def _look_after_all(self, now: float) -> list[str]:
        """Keep the figures; the ended jobs that may be forgotten."""
        for run_id, keeper in list(self._keepers.items()):
            self._look_after(run_id, keeper, now)
        over = {run_id: k.ended_at or now for run_id, k in self._keepers.items() if k.over}
        self.metrics.jobs(len(self._keepers) - len(over))
        self.metrics.beats(self._beats)
        self._beats = 0
        return forgettable(over, now)

    def _look_after(self, run_id: str, keeper: Keeper, now: float) -> None:
        if self._drop_if_empty(run_id, keeper):
            return
        if not keeper.job.ended:
            keeper.ended_at = None
            if generation := keeper.job.generation:
                self.metrics.generation(run_id, generation.number)
        elif keeper.ended_at is None:
            keeper.ended_at = now
            self.metrics.forget(run_id)

    async def _forget(self, run_ids: Sequence[str], leadership: Leadership) -> None:
        """Remove ended jobs from here and from the store, in one write."""
        gone = [run_id for run_id in run_ids if (k := self._keepers.get(run_id)) and k.over]
        if why := await self._remove(gone, leadership):
            log.warning("%d ended jobs stay in the store: %s", len(gone), why)

    async def _remove(self, run_ids: Sequence[str], leadership: Leadership) -> str:
        """Remove jobs from here and from the store, in one write. Why they stay there, if so."""
        for run_id in run_ids:
            self._unreadable.pop(run_id, None)
            if (keeper := self._keepers.pop(run_id, None)) is None:
                continue
            keeper.close()
            self.metrics.forget(run_id)
            for stream in keeper.job.streams:
                self._outboxes[stream].close()
        try:
            # Whoever joins such a job from now on stores it after this.
            await leadership.write([Delete(job_key(run_id)) for run_id in run_ids])
        except StoreError as error:
            return str(error)
        return ""

    def _drop_if_empty(self, run_id: str, keeper: Keeper) -> bool:
        if not keeper.job.empty:
            return False
        keeper.close()
        del self._keepers[run_id]
        return True

    # One agent

    async def attend(self, read: Read, write: Send, token: str) -> None:
        """One stream from beginning to end; cancelled when the peer is gone."""
        stream = next(self._numbers)
        try:
            async with asyncio.timeout(FIRST_MESSAGE):
                first = await read()
        except TimeoutError:
            return
        if not isinstance(first, bytes):
            return
        outbox = Outbox(self._loop.time(), self._timeouts.pulse)
        reader: asyncio.Task[None] | None = None
        try:
            await self._door.pass_through()
            opened = self._open(stream, outbox, first, token)
            if not isinstance(opened, Keeper):
                await write(opened.SerializeToString())
                return
            reader = start_task(
                self._hear(stream, outbox, opened, read), name="an agent", failed=logged
            )
            while (message := await outbox.take()) is not None:
                if len(message) < LARGE_MESSAGE:
                    await write(message)
                else:
                    await self._write_in_turn(write, message)
        finally:
            if reader is not None:
                reader.cancel()
            self._close(stream)

    def _close(self, stream: int) -> None:
        if self._outboxes.pop(stream, None) is None:
            return
        self.metrics.streams(len(self._outboxes))
        keeper = self._attending.pop(stream)
        if self._keepers.get(keeper.job.run_id) is keeper:
            keeper.run(lambda now: keeper.job.stream_lost(stream, now))

    async def _write_in_turn(self, write: Send, message: bytes) -> None:
        """A roster of thousands, to thousands: all at once they would fill memory and sockets, so
        that beats and pings don't come through. Who doesn't read gives up its turn after a second.
        """
        async with self._turns:
            writing = asyncio.ensure_future(write(message))
            try:
                await asyncio.wait([writing], timeout=1.0)
            except asyncio.CancelledError:
                writing.cancel()
                raise
        await writing

    def _open(
        self, stream: int, outbox: Outbox, first: bytes, token: str
    ) -> Keeper | wire.ServiceMessage:
        """Bind the stream to the node that joins, or say why not."""
        run_id = node = ""
        try:
            if not self._tokens().known(token):
                raise MessageError(wire.CODE_UNAUTHENTICATED, "the token opens no job here")
            message = checks.agent_message(first)
            if message.WhichOneof("body") != "join":
                raise MessageError(wire.CODE_INVALID, "the first message must be a join")
            join = message.join
            if not self._tokens().opens(join.run_id, token):
                raise MessageError(
                    wire.CODE_UNAUTHENTICATED, f"the token does not open job {join.run_id}"
                )
            run_id, node = join.run_id, join.node
            if self._leadership is None or self._leaving:
                return wire.ServiceMessage(redirect=self._redirect("this replica does not lead"))
            self._make_room(join.run_id)
            keeper = self._keepers.get(join.run_id) or self._keep(join.run_id, self._leadership)
            self._outboxes[stream], self._attending[stream] = outbox, keeper
            try:
                keeper.run(lambda now: keeper.job.join(stream, join, now))
            except MessageError:
                del self._outboxes[stream], self._attending[stream]
                self._drop_if_empty(join.run_id, keeper)
                raise
        except MessageError as error:
            self.metrics.rejected()
            if line := self._refusals.line(run_id, node, str(error), self._loop.time()):
                log.warning("%s", line)
            refused = wire.Refused(
                reason=str(error),
                code=error.code,
                retryable=error.code == wire.CODE_EXHAUSTED,
            )
            return wire.ServiceMessage(refused=refused)
        self.metrics.received("join")
        self.metrics.streams(len(self._outboxes))
        return keeper

    def _make_room(self, run_id: str) -> None:
        if run_id in self._unreadable:
            raise MessageError(
                wire.CODE_EXHAUSTED,
                f"the stored state of job {run_id} cannot be read: {self._unreadable[run_id]}",
            )
        if len(self._outboxes) >= self._most_streams:
            raise MessageError(
                wire.CODE_EXHAUSTED, f"the service holds {self._most_streams} agents, all it can"
            )
        if run_id in self._keepers or len(self._keepers) < MAX_JOBS:
            return
        if sum(not keeper.job.ended for keeper in self._keepers.values()) >= MAX_JOBS:
            raise MessageError(
                wire.CODE_EXHAUSTED,
                f"the service holds {MAX_JOBS} jobs that have not ended, as many as it takes "
                "(`remesh rendezvous stop` ends one)",
            )

    async def _hear(self, stream: int, outbox: Outbox, keeper: Keeper, read: Read) -> None:
        offences = 0
        try:
            while offences <= MAX_OFFENCES and isinstance(data := await read(), bytes):
                if data == BEAT:
                    self._beats += 1
                    keeper.beat(stream)
                elif (problem := self._take(stream, keeper, data)) is not None:
                    outbox.put(problem, self._loop.time())
                    offences += 1
        finally:
            outbox.close()

    def _take(self, stream: int, keeper: Keeper, data: bytes) -> bytes | None:
        """Let the job have a message; the problem to answer, if it is a bad one."""
        try:
            message = checks.agent_message(data)
            self.metrics.received(message.WhichOneof("body") or "")
            keeper.run(lambda now: keeper.job.receive(stream, message, now))
        except MessageError as error:
            self.metrics.rejected()
            problem = wire.Problem(code=error.code, detail=str(error))
            return wire.ServiceMessage(problem=problem).SerializeToString()
        return None

    # Operators

    def knows(self, token: str) -> bool:
        """Whether the token opens any job: of who shows none, nothing is read."""
        return self._tokens().known(token)

    def status(self, run_id: str, token: str) -> wire.StatusReply:
        now = self._loop.time()
        trouble = self._store.trouble
        reply = wire.StatusReply(service=self.address, store_trouble=trouble)
        if self._leadership is None:
            # Who can't ask the store does not know who leads by now.
            reply.leader = "" if trouble else self.candidate.leader
            return reply
        reply.leader = self.address
        reply.leading_for = now - self._leading_since
        for name, keeper in sorted(self._keepers.items()):
            if run_id in ("", name) and self._tokens().opens(name, token):
                reply.jobs.append(keeper.job.status(now))
        return reply

    async def operate(
        self, run_id: str, token: str, decide: Callable[[Job], Callable[[float], Sequence[Action]]]
    ) -> wire.AdminReply:
        """Carry out an operator's wish; answers when it is stored. `decide` raises MessageError."""
        if not self._tokens().opens(run_id, token):
            return wire.AdminReply(reason=f"the token does not open job {run_id}")
        if self._leadership is None:
            leader = self.candidate.leader
            return wire.AdminReply(reason="this replica does not lead", leader=leader)
        keeper = self._keepers.get(run_id)
        if keeper is None:
            return wire.AdminReply(reason=f"there is no job {run_id}")
        try:
            keeper.run(decide(keeper.job))
        except MessageError as error:
            return wire.AdminReply(reason=str(error))
        await keeper.settle()
        return wire.AdminReply(accepted=True)

    async def forget(self, request: wire.ForgetRequest, token: str) -> wire.ForgetReply:
        """Remove the records of jobs; answers when they are gone from the store."""
        leadership = self._leadership
        if leadership is None:
            leader = self.candidate.leader
            return wire.ForgetReply(reason="this replica does not lead", leader=leader)
        gone, kept = sorted_out(
            self._standings(token), request.run_ids, ended=request.ended, force=request.force
        )
        forgotten: list[str] = []
        for first in range(0, len(gone), AT_ONCE):
            some = gone[first : first + AT_ONCE]
            if why := await self._remove(some, leadership):
                kept |= dict.fromkeys(some, f"its record stays in the store: {why}")
            else:
                forgotten += some
        if forgotten:
            log.info("an operator had the records of %d jobs removed", len(forgotten))
        return wire.ForgetReply(forgotten=forgotten, kept=kept)

    def _standings(self, token: str) -> dict[str, Standing]:
        """Of all jobs that the token opens."""
        jobs = {
            run_id: Standing.ENDED if keeper.ended else Standing.LIVE
            for run_id, keeper in self._keepers.items()
        }
        jobs |= dict.fromkeys(self._unreadable, Standing.UNREADABLE)
        return {
            run_id: standing
            for run_id, standing in sorted(jobs.items())
            if self._tokens().opens(run_id, token)
        }
