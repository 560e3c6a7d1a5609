"""What a job asks its keeper to do, in order."""

from __future__ import annotations

from dataclasses import dataclass

from rendezvous.membership import Record


@dataclass(frozen=True, slots=True)
class Write:
    """Put the record into the store; what follows waits until it is there.

    Of several that wait only the last need be written: a record is the whole state.
    """

    record: Record


@dataclass(frozen=True, slots=True)
class Send:
    """One encoded ServiceMessage to each of the streams that are still open."""

    streams: tuple[int, ...]
    message: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """End a stream when all that was sent before is on its way."""

    stream: int


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell the log what an operator should look at."""

    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Tell the log that a node is not taken in, and why."""

    node: str
    reason: str


Action = Write | Send | Close | Warn | Refusal
