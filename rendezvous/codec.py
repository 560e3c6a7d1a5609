"""Between the wire's messages and the control plane's own values."""

from __future__ import annotations

import zlib
from dataclasses import fields
from functools import lru_cache

from google.protobuf.message import DecodeError

from rendezvous.errors import MessageError
from rendezvous.generation import Generation, Member
from rendezvous.membership.spec import JobSpec
from rendezvous.wire import rendezvous_pb2 as wire

BEAT = wire.AgentMessage(beat=wire.Beat()).SerializeToString()
"""Every beat there is."""
MAX_ROSTER_BYTES = 64 << 20
_SPEC_FIELDS = tuple(field.name for field in fields(JobSpec))


def spec_to_wire(spec: JobSpec) -> wire.JobSpec:
    return wire.JobSpec(**{name: getattr(spec, name) for name in _SPEC_FIELDS})


def spec_from_wire(message: wire.JobSpec) -> JobSpec:
    """Raises MessageError when the values don't make a spec."""
    return _spec(message.SerializeToString(deterministic=True))


# All nodes of a job bring the same one.
@lru_cache(maxsize=256)
def _spec(data: bytes) -> JobSpec:
    message = wire.JobSpec.FromString(data)
    try:
        return JobSpec(**{name: getattr(message, name) for name in _SPEC_FIELDS})
    except ValueError as error:
        raise MessageError(wire.CODE_INVALID, f"spec: {error}") from error


def generation_to_wire(generation: Generation) -> wire.GenerationBegan:
    """One message for all nodes. Of the store endpoints only the first member's is in it."""
    roster = wire.Roster(
        members=[
            wire.RosterMember(
                node=member.node,
                incarnation=member.incarnation,
                slots=member.slots,
                host=member.host,
                labels=member.labels,
            )
            for member in generation.members
        ]
    )
    return wire.GenerationBegan(
        number=generation.number,
        reason=generation.reason,
        restarts=generation.restarts,
        store_endpoint=generation.store_endpoint if generation.members else "",
        roster=zlib.compress(roster.SerializeToString(), 1),
        secret=generation.secret,
    )


_newest: tuple[tuple[int, str, int, str, bytes, str], Generation] | None = None
"""The last message that was read, and what it said."""


def generation_from_wire(message: wire.GenerationBegan) -> Generation:
    """Raises MessageError when the roster is not one.

    Sessions that share a process are all told the same, so that the last one is kept. It is known
    again by its bytes: to compare a long roster costs a tenth of hashing it.
    """
    global _newest
    told = (
        message.number,
        message.reason,
        message.restarts,
        message.store_endpoint,
        message.roster,
        message.secret,
    )
    known = _newest
    if known is not None and known[0] == told:
        return known[1]
    generation = Generation(
        number=message.number,
        members=tuple(
            Member(
                node=member.node,
                incarnation=member.incarnation,
                slots=member.slots,
                host=member.host,
                store_endpoint=message.store_endpoint if index == 0 else "",
                labels=dict(member.labels),
            )
            for index, member in enumerate(_roster(message.roster).members)
        ),
        reason=message.reason,
        restarts=message.restarts,
        secret=message.secret,
    )
    _newest = told, generation
    return generation


def _roster(compressed: bytes) -> wire.Roster:
    inflate = zlib.decompressobj()
    try:
        roster = wire.Roster.FromString(inflate.decompress(compressed, MAX_ROSTER_BYTES))
    except (zlib.error, DecodeError) as error:
        raise MessageError(wire.CODE_INVALID, f"unreadable roster: {error}") from error
    if not inflate.eof:
        raise MessageError(wire.CODE_INVALID, "the roster is cut off, or too large")
    return roster
