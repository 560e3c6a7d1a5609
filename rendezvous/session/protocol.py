"""What a session decides: whom to dial and when, what to say, what a message means. Pure.

The agent's reports about the current generation stand until the next one begins: a new leader
knows only what was stored, so they are told again on every new stream, with their old numbers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from rendezvous.bounds import MAX_SECONDS
from rendezvous.codec import generation_from_wire, spec_to_wire
from rendezvous.membership.spec import JobSpec
from rendezvous.session import events
from rendezvous.session.events import SessionEvent
from rendezvous.session.identity import NodeIdentity
from rendezvous.timeouts import Timeouts
from rendezvous.wire import rendezvous_pb2 as wire

PROTOCOL = 1
MOST_PATIENCE = 4
"""How many times the usual time an answer is waited for when several were waited for in vain."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to `endpoint` after `delay` seconds."""

    endpoint: str
    delay: float


class SessionProtocol:
    """One incarnation's side of the conversation; `now` is of any clock that doesn't go back."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        run_id: str,
        node: NodeIdentity,
        spec: JobSpec,
        timeouts: Timeouts,
        resume_key: bytes,
        rng: random.Random,
        now: float,
        heard: int = 0,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._run_id, self._node, self._spec = run_id, node, spec
        self._timeouts, self._resume_key, self._rng = timeouts, resume_key, rng
        self._turn = rng.randrange(len(self._endpoints))
        self._leader = ""
        self._endpoint = ""
        self._shunned: dict[str, float] = {}
        self._failures = 0
        self._not_before = now
        self._store_endpoint = node.store_endpoint
        self._sequence = 0
        self._standing: list[wire.AgentMessage] = []
        self._acknowledged = 0
        self._status: dict[str, str] = {}
        self._boundary: tuple[int, frozenset[str]] = (0, frozenset())
        self._refusal = ""
        self._heard = now
        self._silence = timeouts.silence_of(spec)
        self._unanswered = 0
        self._down_since: float | None = None
        self._met: float | None = None
        """When a service took this life of the node in for the first time."""
        self._earlier = heard
        self.generation = heard
        self.attending = False
        self.over = False

    # Dialling

    def dial(self, now: float) -> Dial:
        """Where to connect next. A leader that was named comes first, then the list in turn.

        Whoever was silent just now is left out for as long as the others may still name it.
        """
        named, self._leader = self._leader, ""
        self._shunned = {e: until for e, until in self._shunned.items() if until > now}
        if named in self._shunned:
            named, self._not_before = "", max(self._not_before, now + self._timeouts.retry_most / 2)
        self._endpoint = named or self._next_in_turn()
        return Dial(self._endpoint, max(0.0, self._not_before - now))

    def _next_in_turn(self) -> str:
        endpoint = ""
        for _ in self._endpoints:
            endpoint = self._endpoints[self._turn % len(self._endpoints)]
            self._turn += 1
            if endpoint not in self._shunned:
                break
        return endpoint

    def opening(self, now: float) -> list[wire.AgentMessage]:
        """What to say first on a new stream."""
        self._heard = now
        join = wire.Join(
            protocol=PROTOCOL,
            run_id=self._run_id,
            node=self._node.node,
            incarnation=self._node.incarnation,
            slots=self._node.slots,
            host=self._node.host,
            labels=self._node.labels,
            store_endpoint=self._store_endpoint,
            spec=spec_to_wire(self._spec),
            resume_key=self._resume_key,
            generation=self.generation if self.generation > self._earlier else 0,
            earlier=self._earlier,
            attended=0.0 if self._met is None else min(MAX_SECONDS, now - self._met),
        )
        messages = [wire.AgentMessage(join=join), *self._standing]
        if self._status:
            messages.append(wire.AgentMessage(report=wire.Report(status=self._status)))
        return messages

    def silent(self, now: float) -> bool:
        """Whether the stream should be given up."""
        if self.attending:
            return now - self._heard > self._silence
        # A crowd that gives up and comes again keeps an overloaded service from ever answering.
        patience = self._timeouts.answer_to_join(self._spec.max_nodes)
        patience *= min(1 << self._unanswered, MOST_PATIENCE)
        return now - self._heard > patience

    def was_away(self, seconds: float) -> None:
        """This process did not run for so long: what it did not hear proves nothing."""
        self._heard += seconds

    def lost(self, now: float) -> list[SessionEvent]:
        """The stream ended, or never began."""
        if self.silent(now):
            self._unanswered += not self.attending
            self._shunned[self._endpoint] = now + self._timeouts.lease
        self.attending = False
        self._failures += 1
        steps = min(self._failures, len(self._endpoints))
        wait = 0.0
        if self._failures > steps or len(self._endpoints) == 1:
            # The whole list was tried in vain: from here on, ever more slowly.
            rounds = (self._failures - 1) // len(self._endpoints)
            wait = min(self._timeouts.retry_most, self._timeouts.retry_first * 2 ** min(rounds, 16))
        self._not_before = max(self._not_before, now + wait * self._rng.uniform(0.5, 1.0))
        if self._down_since is None and not self.over:
            self._down_since = self._heard
            return [events.Disconnected(self._heard, met=self._met is not None)]
        return []

    # Saying

    def report(self, message: wire.AgentMessage, store_endpoint: str = "") -> wire.AgentMessage:
        """Number a report and keep it; what it names as the next store endpoint is remembered."""
        self._sequence += 1
        message.sequence = self._sequence
        self._standing.append(message)
        if store_endpoint:
            self._store_endpoint = store_endpoint
        return message

    def status(self, status: dict[str, str]) -> wire.AgentMessage:
        self._status = status
        return wire.AgentMessage(report=wire.Report(status=status))

    @property
    def settled(self) -> bool:
        """Whether every report that still matters was acknowledged."""
        return all(message.sequence <= self._acknowledged for message in self._standing)

    # Hearing

    def receive(self, message: wire.ServiceMessage, now: float) -> list[SessionEvent]:
        """Raises MessageError for a generation that cannot be read."""
        self._heard = now
        match message.WhichOneof("body"):
            case "welcome":
                return self._welcome(message.welcome, now)
            case "generation_began":
                return self._generation(message.generation_began)
            case "ack":
                self._acknowledged = max(self._acknowledged, message.ack.sequence)
            case "redirect":
                self._redirect(message.redirect, now)
            case "leave_at_boundary":
                return self._leave_at_boundary(message.leave_at_boundary)
            case "spare":
                return [events.Spare(message.spare.reason, message.spare.generation)]
            case "drain_asked":
                return [events.DrainAsked(message.drain_asked.reason, message.drain_asked.grace)]
            case "drain_done":
                done = message.drain_done
                return [events.DrainDone(done.reason, done.handed_over)]
            case "job_ended":
                self.over = True
                return [events.JobEnded(message.job_ended.status, message.job_ended.reason)]
            case "refused":
                refused = message.refused
                # Who was taken in once, and is no stranger therefore, waits for its new token.
                anew = refused.code == wire.CODE_UNAUTHENTICATED and self._met is not None
                return self._refused(refused.reason, refused.retryable or anew, now)
            case "pulse":
                self._expect_pulse(message.pulse.next_ms)
            case "problem" if not self.attending:
                return self._refused(message.problem.detail, False, now)
        return []

    def _expect_pulse(self, milliseconds: int) -> None:
        self._silence = max(self._timeouts.silence_of(self._spec), 2.5 * milliseconds / 1000)

    def _welcome(self, message: wire.Welcome, now: float) -> list[SessionEvent]:
        self._expect_pulse(message.pulse_ms)
        self.attending = True
        self._met = now if self._met is None else self._met
        self._failures = self._unanswered = 0
        self._refusal = ""
        if self._down_since is None:
            return []
        self._down_since = None
        return [events.Reconnected()]

    def _generation(self, message: wire.GenerationBegan) -> list[SessionEvent]:
        if message.number <= self.generation:
            return []
        generation = generation_from_wire(message)
        self.generation = message.number
        self._standing = [m for m in self._standing if _generation_of(m) in (None, self.generation)]
        # The socket of a member was for this generation; the next needs one of its own.
        if generation.group_rank(self._node.node) is not None:
            self._store_endpoint = ""
        return [events.GenerationBegan(generation)]

    def _leave_at_boundary(self, message: wire.LeaveAtBoundary) -> list[SessionEvent]:
        asked = message.generation, frozenset(message.going)
        if message.generation != self.generation or asked == self._boundary:
            return []
        self._boundary = asked
        going = tuple(message.going)
        return [events.LeaveAtBoundary(message.generation, message.reason, going)]

    def _redirect(self, message: wire.Redirect, now: float) -> None:
        self._leader = message.leader
        if not self._leader:
            wait = message.retry_ms / 1000 * self._rng.uniform(0.5, 1.0)
            self._not_before = max(self._not_before, now + min(wait, self._timeouts.retry_most))

    def _refused(self, reason: str, retryable: bool, now: float) -> list[SessionEvent]:
        self.over = not retryable
        self._not_before = now + self._timeouts.retry_most * self._rng.uniform(0.5, 1.0)
        if retryable and reason == self._refusal:
            return []
        self._refusal = reason
        return [events.Refused(reason, retryable)]


def _generation_of(message: wire.AgentMessage) -> int | None:
    body = getattr(message, message.WhichOneof("body") or "beat")
    return getattr(body, "generation", None)
