"""The transition function: one event in, its effects out."""

from __future__ import annotations

from collections.abc import Callable

from rendezvous.generation import Generation
from rendezvous.membership import arrivals, reports, wishes
from rendezvous.membership.decide import decide
from rendezvous.membership.effects import Effect, Persist
from rendezvous.membership.events import (
    Beat,
    DrainAsked,
    Event,
    Finished,
    Join,
    Leave,
    Left,
    Listening,
    NewLeader,
    Running,
    ScaleAsked,
    StopAsked,
    StreamLost,
    Tick,
    WorkerFailed,
)
from rendezvous.membership.job import Job
from rendezvous.membership.record import Ended, Record
from rendezvous.membership.view import JobView, NodeView, waiting_for


class Membership:
    """One job's membership. The same events at the same times give the same effects.

    Mutable inside, so that a beat costs the same among ten nodes and ten thousand. `secrets` is
    asked for each generation's secret: chance comes from outside, as time does.
    """

    def __init__(self, secrets: Callable[[], str]) -> None:
        self._job = Job(secrets)

    @property
    def generation(self) -> Generation | None:
        """The last generation published."""
        return self._job.record.generation if self._job.record else None

    @property
    def ended(self) -> Ended | None:
        """How the job ended, None while it lives."""
        return self._job.record.ended if self._job.record else None

    @property
    def record(self) -> Record | None:
        """What the store should hold; None before the first join."""
        return self._job.record

    def step(self, event: Event, now: float) -> tuple[Effect, ...]:
        """Takes in one event and returns what must be done, in order."""
        job = self._job
        spec = job.record.spec if job.record else None
        wake = self._wake()
        job.clock.advance(now, wake, spec.beat_timeout if spec else 0.0)
        before = job.record
        if isinstance(event, NewLeader):
            job = self._job = arrivals.restore(job, event)
            before = job.record
        else:
            self._take(event)
        # A beat can only put things off, and the next one to be read may be of the next node.
        if not isinstance(event, Beat):
            arrivals.miss(job)
            decide(job)
        effects, job.effects = tuple(job.effects), []
        if job.record is not None and job.record is not before:
            return (Persist(record=job.record), *effects)
        return effects

    def next_deadline(self) -> float | None:
        """When to call with `Tick` at the latest if nothing happens before; None: never."""
        wake = self._wake()
        return None if wake is None else self._job.clock.outside(wake)

    def view(self, now: float) -> JobView:
        """What `status` shows."""
        job = self._job
        record = job.record
        away = max(0.0, now - job.clock.outside(job.now))
        return JobView(
            generation=self.generation,
            active=job.standing > 0,
            age=job.now + away - job.began,
            restarts=record.restarts if record else 0,
            target=record.target if record else None,
            waiting=waiting_for(job),
            nodes=tuple(
                NodeView(
                    node=name,
                    incarnation=node.member.incarnation,
                    host=node.member.host,
                    slots=node.member.slots,
                    phase=node.phase.value,
                    connected=name in job.beating,
                    draining=node.draining,
                    silent=job.now + away - heard
                    if (heard := job.beating.since(name)) is not None
                    else -1.0,
                )
                for name, node in job.nodes.items()
            ),
            set_aside=dict(record.set_aside) if record else {},
            ended=self.ended,
        )

    def _take(self, event: Event) -> None:
        job = self._job
        if not isinstance(event, Beat | Join | StreamLost):
            arrivals.hear(job, event)
        match event:
            case Beat():
                arrivals.beat(job, event)
            case Join():
                arrivals.join(job, event)
            case NewLeader() | Tick():
                return
            case _ if job.record is None or job.record.ended is not None:
                return
            case StreamLost():
                arrivals.stream_lost(job, event)
            case Leave():
                arrivals.leave(job, event)
            case Listening():
                reports.listening(job, event)
            case Running():
                reports.running(job, event)
            case Left():
                reports.left(job, event)
            case WorkerFailed():
                reports.worker_failed(job, event)
            case Finished():
                reports.finished(job, event)
            case DrainAsked():
                wishes.drain_asked(job, event)
            case ScaleAsked():
                wishes.scale_asked(job, event)
            case StopAsked():
                wishes.stop_asked(job, event)

    def _wake(self) -> float | None:
        """When, by the job's own clock, something is due if nothing happens."""
        job = self._job
        if job.record is None or job.record.ended is not None:
            return None
        spec = job.spec
        silences = (
            job.beating.deadline(spec.beat_timeout),
            job.doubted.deadline(job.doubt),
            job.absent.deadline(spec.leader_grace),
        )
        due = [max(deadline, job.clock.silence) for deadline in silences if deadline is not None]
        if job.alarm is not None:
            due.append(job.alarm)
        return min(due, default=None)
