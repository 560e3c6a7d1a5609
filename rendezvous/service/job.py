"""One job as its leader sees it: wire messages in, membership decides, actions out. Pure.

A stream is bound to one life of one node by its join; what comes on it speaks for that life only.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rendezvous import membership as m
from rendezvous.codec import generation_to_wire, spec_from_wire, spec_to_wire
from rendezvous.errors import MessageError
from rendezvous.generation import Generation
from rendezvous.service.actions import Action, Close, Refusal, Send, Warn, Write
from rendezvous.service.translate import event_of
from rendezvous.wire import rendezvous_pb2 as wire

KEYS_KEPT = 1024


@dataclass(slots=True)
class Attendee:
    """One open stream."""

    stream: int
    node: str
    incarnation: int
    resume_key: bytes
    since: float
    """When a service first took this life of the node in."""
    heard: float
    beat: m.Beat
    status: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


class Job:
    """`service` is the address that welcomes; `pulse` how soon after
    its welcome an agent hears something again, in seconds."""

    def __init__(self, run_id: str, *, service: str, pulse: float, most_nodes: int) -> None:
        self.run_id = run_id
        self._service, self._pulse, self._most_nodes = service, pulse, most_nodes
        self._membership = m.Membership(secrets.token_hex)
        self._streams: dict[int, Attendee] = {}
        self._nodes: dict[str, Attendee] = {}
        self._keys: dict[tuple[str, int], bytes] = {}
        self._encoded: tuple[Generation, bytes] | None = None
        self._restored = (0, 0.0)
        """The generation that an earlier leader began, and how old it was then, in seconds."""

    def restore(self, record: m.Record | None, now: float, *, age: float = 0.0) -> list[Action]:
        """Take over from an earlier leader; once, before anything else.

        `age` is of the record's generation, in seconds.
        """
        if record is not None and record.generation is not None:
            self._restored = (record.generation.number, age)
        return self._step(m.NewLeader(record=record), now)

    # Agents

    def join(self, stream: int, join: wire.Join, now: float) -> list[Action]:
        """The first message of a stream. Raises MessageError; then the stream isn't bound."""
        spec = spec_from_wire(join.spec)
        former = self._nodes.get(join.node)
        identity = (join.node, join.incarnation)
        if refusal := self._refusal(former, join, spec, now):
            return _refusing(stream, join.node, refusal)
        attendee = Attendee(
            stream=stream,
            node=join.node,
            incarnation=join.incarnation,
            resume_key=join.resume_key,
            since=now - join.attended,
            heard=now,
            beat=m.Beat(node=join.node, incarnation=join.incarnation),
            labels=dict(join.labels),
        )
        event = m.Join(
            node=join.node,
            incarnation=join.incarnation,
            slots=join.slots,
            host=join.host,
            store_endpoint=join.store_endpoint,
            spec=spec,
            labels=attendee.labels,
            generation=join.generation,
            earlier=join.earlier,
            stream=stream,
        )
        self._streams[stream] = attendee
        self._nodes[join.node] = attendee
        effects = self._membership.step(event, now)
        if any(isinstance(e, m.Refuse) and (e.node, e.incarnation) == identity for e in effects):
            del self._streams[stream]
            actions = self._carry_out(effects, refusing=stream)
            if former is not None:
                self._nodes[join.node] = former
            else:
                del self._nodes[join.node]
            return actions
        if former is not None:
            self._streams.pop(former.stream, None)
        self._remember(identity, join.resume_key)
        welcome = wire.Welcome(service=self._service, pulse_ms=int(1000 * self._pulse))
        actions = [_send([stream], welcome=welcome), *self._carry_out(effects)]
        if former is not None:
            actions.append(Close(former.stream))
        return actions

    def receive(self, stream: int, message: wire.AgentMessage, now: float) -> list[Action]:
        """A checked message on a bound stream. Raises MessageError for one out of place."""
        attendee = self._streams.get(stream)
        if attendee is None:
            return []
        attendee.heard = now
        body = message.WhichOneof("body")
        if body == "join":
            raise MessageError(wire.CODE_INVALID, "this stream has joined already")
        if body == "report":
            attendee.status = dict(message.report.status)
            return []
        event = event_of(message, attendee.node, attendee.incarnation) or attendee.beat
        actions = self._step(event, now)
        if message.sequence:
            actions.append(_send([stream], ack=wire.Ack(sequence=message.sequence)))
        return actions

    def beat(self, stream: int, now: float) -> list[Action]:
        """What a beat says, without a message."""
        attendee = self._streams.get(stream)
        if attendee is None:
            return []
        attendee.heard = now
        effects = self._membership.step(attendee.beat, now)
        return self._carry_out(effects) if effects else []

    def stream_lost(self, stream: int, now: float) -> list[Action]:
        attendee = self._streams.pop(stream, None)
        if attendee is None:
            return []
        if self._nodes.get(attendee.node) is attendee:
            del self._nodes[attendee.node]
        event = m.StreamLost(node=attendee.node, incarnation=attendee.incarnation, stream=stream)
        return self._step(event, now)

    # Time and operators

    def tick(self, now: float) -> list[Action]:
        return self._step(m.Tick(), now)

    def next_deadline(self) -> float | None:
        """When `tick` is due if nothing happens before."""
        return self._membership.next_deadline()

    def drain(self, node: str, grace: float, reason: str, now: float) -> list[Action]:
        return self._step(m.DrainAsked(node=node, grace=grace, reason=reason), now)

    def scale(self, nodes: int, now: float) -> list[Action]:
        return self._step(m.ScaleAsked(nodes=nodes), now)

    def stop(self, reason: str, now: float) -> list[Action]:
        return self._step(m.StopAsked(reason=reason), now)

    # Views

    @property
    def streams(self) -> Iterable[int]:
        return self._streams.keys()

    @property
    def generation(self) -> Generation | None:
        return self._membership.generation

    @property
    def ended(self) -> bool:
        return self._membership.ended is not None

    @property
    def empty(self) -> bool:
        """Nobody attends and nothing is to be remembered."""
        return not self._streams and self._membership.record is None

    def spec(self) -> m.JobSpec | None:
        record = self._membership.record
        return None if record is None else record.spec

    def knows(self, node: str) -> bool:
        return node in self._nodes

    def status(self, now: float) -> wire.JobStatus:
        view = self._membership.view(now)
        generation, record = view.generation, self._membership.record
        number, older = self._restored
        ranks = (
            {member.node: i for i, member in enumerate(generation.members)} if generation else {}
        )
        return wire.JobStatus(
            run_id=self.run_id,
            phase=_phase(view),
            reason=view.ended.reason if view.ended else view.waiting,
            generation=generation.number if generation else 0,
            generation_reason=generation.reason if generation else "",
            generation_age=view.age + (older if generation and generation.number == number else 0),
            restarts=view.restarts,
            spec=None if record is None else spec_to_wire(record.spec),
            ended_by=view.ended.by if view.ended else "",
            nodes=[self._node_status(node, ranks.get(node.node, -1), now) for node in view.nodes],
        )

    def _node_status(self, node: m.NodeView, rank: int, now: float) -> wire.NodeStatus:
        attendee = self._nodes.get(node.node)
        return wire.NodeStatus(
            node=node.node,
            incarnation=node.incarnation,
            slots=node.slots,
            host=node.host,
            state="draining" if node.draining else node.phase if node.connected else "gone",
            group_rank=rank,
            attending_for=now - attendee.since if attendee else 0.0,
            heard_ago=node.silent,
            status=attendee.status if attendee else None,
        )

    # Within

    def _refusal(
        self, former: Attendee | None, join: wire.Join, spec: m.JobSpec, now: float
    ) -> wire.Refused | None:
        key = self._keys.get((join.node, join.incarnation))
        if key is not None and not hmac.compare_digest(key, join.resume_key):
            return wire.Refused(
                reason=f"another agent is this life of node {join.node}: each node needs a name "
                "of its own",
                code=wire.CODE_MISMATCH,
            )
        if former is None:
            if len(self._streams) >= self._most_nodes:
                return wire.Refused(
                    reason=f"the job has {len(self._streams)} nodes, as many as this service takes",
                    retryable=True,
                    code=wire.CODE_EXHAUSTED,
                )
        elif former.incarnation != join.incarnation and now - former.heard < spec.beat_timeout:
            return wire.Refused(
                reason=f"node {join.node} attends already: each node needs a name of its own",
                retryable=join.incarnation > former.incarnation,
                code=wire.CODE_OCCUPIED,
            )
        return None

    def _remember(self, identity: tuple[str, int], resume_key: bytes) -> None:
        self._keys.pop(identity, None)
        self._keys[identity] = resume_key
        while len(self._keys) > KEYS_KEPT + 2 * len(self._streams):
            del self._keys[next(iter(self._keys))]

    def _step(self, event: m.Event, now: float) -> list[Action]:
        return self._carry_out(self._membership.step(event, now))

    def _carry_out(self, effects: Iterable[m.Effect], refusing: int | None = None) -> list[Action]:
        actions: list[Action] = []
        for effect in effects:
            match effect:
                case m.Persist():
                    actions.append(Write(effect.record))
                case m.Publish():
                    message = self._encode(effect.generation)
                    actions.append(Send(self._to(effect.to), message))
                case m.AskBoundary():
                    ask = wire.LeaveAtBoundary(
                        generation=effect.generation, reason=effect.reason, going=effect.going
                    )
                    actions.append(_send(self._to(effect.to), leave_at_boundary=ask))
                case m.KeepSpare():
                    spare = wire.Spare(reason=effect.reason, generation=effect.generation)
                    actions.append(_send(self._to([effect.node]), spare=spare))
                case m.AskDrain():
                    drain = wire.DrainAsked(grace=effect.grace, reason=effect.reason)
                    actions.append(_send(self._to([effect.node]), drain_asked=drain))
                case m.DrainDone():
                    done = wire.DrainDone(reason=effect.reason, handed_over=effect.handed_over)
                    actions.append(_send(self._to([effect.node]), drain_done=done))
                case m.EndJob():
                    ended = wire.JobEnded(status=effect.status, reason=effect.reason)
                    actions.append(_send(self._to(effect.to), job_ended=ended))
                case m.Refuse():
                    actions.extend(self._refuse(effect, refusing))
                case m.Warn():
                    actions.append(Warn(effect.reason))
                case m.Note():
                    pass
        return actions

    def _refuse(self, effect: m.Refuse, refusing: int | None) -> list[Action]:
        stream = refusing
        if stream is None:
            attendee = self._nodes.get(effect.node)
            if attendee is None or attendee.incarnation != effect.incarnation:
                return []
            stream = attendee.stream
        refused = wire.Refused(
            reason=effect.reason, retryable=effect.retryable, code=wire.CODE_DECIDED
        )
        return _refusing(stream, effect.node, refused)

    def _encode(self, generation: Generation) -> bytes:
        # One encoding for all who hear of it, now and when they come back.
        if self._encoded is None or self._encoded[0] is not generation:
            message = wire.ServiceMessage(generation_began=generation_to_wire(generation))
            self._encoded = (generation, message.SerializeToString())
        return self._encoded[1]

    def _to(self, nodes: Iterable[str]) -> tuple[int, ...]:
        return tuple(self._nodes[node].stream for node in nodes if node in self._nodes)


def _send(streams: Iterable[int], **body: Any) -> Send:
    message = wire.ServiceMessage(**body)
    return Send(tuple(streams), message.SerializeToString())


def _refusing(stream: int, node: str, refused: wire.Refused) -> list[Action]:
    return [_send([stream], refused=refused), Close(stream), Refusal(node, refused.reason)]


def _phase(view: m.JobView) -> str:
    if view.ended:
        return view.ended.status
    if view.active:
        return "running"
    return "waiting" if view.generation else "forming"
