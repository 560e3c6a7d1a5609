"""Carries out what one job decides: writes first, then words, and a tick when it is time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from rendezvous.complaints import Complaints
from rendezvous.errors import Deposed, StoreRefused
from rendezvous.membership import Record
from rendezvous.service.actions import Action, Close, Refusal, Send, Warn, Write
from rendezvous.service.job import Job
from rendezvous.service.metrics import Metrics
from rendezvous.service.outbox import Outbox
from rendezvous.service.records import Stored, encode_record, job_key
from rendezvous.service.refusals import Refusals
from rendezvous.store import Leadership, Put
from rendezvous.supervision import call_at, call_later, start_task

log = logging.getLogger(__name__)

PAUSE_WHEN_REFUSED = 1.0
PAUSE_AFTER_FAILURE = 1.0
"""Seconds to the next try of a tick that failed by a fault of ours."""


class Keeper:
    """One job under this leader. `outboxes` are the service's open streams, `complaints` those of
    all its jobs: a store that refuses one's writes refuses the others' too. `refusals` are of all
    its jobs as well. `wall` is the time of day, in seconds since 1970."""

    def __init__(
        self,
        job: Job,
        leadership: Leadership,
        outboxes: Mapping[int, Outbox],
        metrics: Metrics,
        complaints: Complaints | None = None,
        refusals: Refusals | None = None,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.job = job
        self._leadership = leadership
        self._outboxes = outboxes
        self._metrics = metrics
        self._complaints = complaints or Complaints()
        self._refusals = refusals or Refusals()
        self._wall = wall
        self._began = (0, 0.0)
        """The number of the generation that was stored last, and since when it is, by `wall`."""
        self._waiting: deque[Action] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.ended_at: float | None = None

    def restore(self, stored: Stored) -> None:
        """Begin with what an earlier leader has stored."""
        record, began = stored.record, stored.began
        if record.generation is not None:
            self._began = (record.generation.number, began)
        age = max(0.0, self._wall() - began) if began else 0.0
        self.run(lambda now: self.job.restore(record, now, age=age))

    @property
    def ended(self) -> bool:
        """Whether the job has ended, and that is stored."""
        return self.job.ended and self._writing is None

    @property
    def over(self) -> bool:
        """Whether the job has ended, that is stored, and nobody attends any more."""
        return self.ended and not any(self.job.streams)

    def run(self, decide: Callable[[float], Sequence[Action]]) -> None:
        """Let the job decide, and act on it. Whatever `decide` raises is raised."""
        if self._closed:
            return
        self._waiting.extend(decide(self._loop.time()))
        self._advance()
        self._arm()

    def close(self) -> None:
        """Do nothing more: another leads, or the service stops."""
        self._closed = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            self._writing.cancel()

    async def settle(self) -> None:
        """Return when everything decided so far was carried out."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    def beat(self, stream: int) -> None:
        # A beat only puts deadlines off, so the timer may stand.
        if self._closed:
            return
        if actions := self.job.beat(stream, self._loop.time()):
            self._waiting.extend(actions)
            self._advance()

    def _advance(self) -> None:
        if self._writing is not None:
            return
        while self._waiting:
            action = self._waiting.popleft()
            if isinstance(action, Write):
                self._writing = start_task(
                    self._write(action.record), name="a job's record", failed=self._write_failed
                )
                return
            self._speak(action)

    def _speak(self, action: Send | Close | Warn | Refusal) -> None:
        if isinstance(action, Refusal):
            now, run_id = self._loop.time(), self.job.run_id
            if line := self._refusals.line(run_id, action.node, action.reason, now):
                log.warning("%s", line)
            return
        if isinstance(action, Warn):
            log.warning("job %s: %s", self.job.run_id, action.text)
            return
        if isinstance(action, Close):
            if (outbox := self._outboxes.get(action.stream)) is not None:
                outbox.close()
            return
        now = self._loop.time()
        for stream in action.streams:
            if (outbox := self._outboxes.get(stream)) is not None:
                outbox.put(action.message, now)
        self._metrics.sent(len(action.streams))

    async def _write(self, record: Record) -> None:
        key = job_key(self.job.run_id)
        try:
            while True:
                record = self._newest(record)
                try:
                    with self._metrics.store_write():
                        await self._leadership.write([Put(key, self._encoded(record))])
                    self._complaints.over("write")
                    break
                except StoreRefused as error:
                    # A full store is mended by its operator; until then only time is lost.
                    if self._complaints.due("write", self._loop.time()):
                        log.error("job %s: the store refuses a write: %s", self.job.run_id, error)
                    await asyncio.sleep(PAUSE_WHEN_REFUSED)
        except Deposed as error:
            # The job knows more than the store does, and must not tell anybody.
            log.warning("job %s: %s", self.job.run_id, error)
            self._closed = True
            self._waiting.clear()
            return
        finally:
            self._writing = None
        self._advance()

    def _encoded(self, record: Record) -> bytes:
        number = record.generation.number if record.generation is not None else 0
        if number != self._began[0]:
            self._began = (number, self._wall())
        return encode_record(record, self._began[1] if number else 0.0)

    def _write_failed(self, error: Exception) -> None:
        """As where another leads already: whoever leads next begins with what is stored."""
        self._closed = True
        self._waiting.clear()
        self._leadership.give_up(f"job {self.job.run_id} can't be stored: {error!r}")

    def _newest(self, record: Record) -> Record:
        """What waits behind holds all that is before it: one write does for all of them."""
        for action in self._waiting:
            if isinstance(action, Write):
                record = action.record
        self._waiting = deque(a for a in self._waiting if not isinstance(a, Write))
        return record

    def _arm(self) -> None:
        deadline = self.job.next_deadline()
        if deadline is None:
            return
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = call_at(deadline, self._tick, failed=self._tick_failed)

    def _tick(self) -> None:
        self._timer = None
        self.run(self.job.tick)

    def _tick_failed(self, _error: Exception) -> None:
        """Without its ticks the job would hear of no lost node any more."""
        if not self._closed and self._timer is None:
            pause = PAUSE_AFTER_FAILURE
            self._timer = call_later(pause, self._tick, failed=self._tick_failed)
