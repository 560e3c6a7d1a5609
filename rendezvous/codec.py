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
    )


def generation_from_wire(message: wire.GenerationBegan) -> Generation:
    """Raises MessageError when the roster is not one."""
    return _generation(
        message.number, message.reason, message.restarts, message.store_endpoint, message.roster
    )


def member_names(message: wire.GenerationBegan) -> frozenset[str]:
    """Who is in it. Raises MessageError when the roster is not one."""
    return _names(message.roster)


# Sessions that share a process share what they were told: it is the same for all of them.
@lru_cache(maxsize=4)
def _generation(
    number: int, reason: str, restarts: int, store_endpoint: str, roster: bytes
) -> Generation:
    members = tuple(
        Member(
            node=member.node,
            incarnation=member.incarnation,
            slots=member.slots,
            host=member.host,
            store_endpoint=store_endpoint if index == 0 else "",
            labels=dict(member.labels),
        )
        for index, member in enumerate(_roster(roster).members)
    )
    return Generation(number=number, members=members, reason=reason, restarts=restarts)


@lru_cache(maxsize=4)
def _names(roster: bytes) -> frozenset[str]:
    return frozenset(member.node for member in _roster(roster).members)


def _roster(compressed: bytes) -> wire.Roster:
    inflate = zlib.decompressobj()
    try:
        roster = wire.Roster.FromString(inflate.decompress(compressed, MAX_ROSTER_BYTES))
    except (zlib.error, DecodeError) as error:
        raise MessageError(wire.CODE_INVALID, f"unreadable roster: {error}") from error
    if not inflate.eof:
        raise MessageError(wire.CODE_INVALID, "the roster is cut off, or too large")
    return roster
