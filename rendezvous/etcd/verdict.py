"""What a failed call means: refused, surely not done, perhaps done, or only a stale token. Pure."""

from __future__ import annotations

from enum import Enum, auto

import grpc

from rendezvous.errors import (
    LeaseLost,
    NotAuthenticated,
    PermissionDenied,
    RequestTooLarge,
    RevisionCompacted,
    StoreError,
    StoreFull,
    StoreRefused,
)


class Verdict(Enum):
    UNDONE = auto()
    """It has changed nothing; another endpoint, or this one later, may do it."""
    UNCERTAIN = auto()
    """It may have been done, or may yet be."""
    STALE_TOKEN = auto()
    """It has changed nothing; authenticate again."""


_STALE = ("invalid auth token", "revision of auth store is old")
_UNDONE = ("no leader", "too many requests", "failed to connect to all addresses")
_REFUSED: tuple[tuple[str, type[StoreError]], ...] = (
    ("requested lease not found", LeaseLost),
    ("database space exceeded", StoreFull),
    ("request is too large", RequestTooLarge),
    ("too many operations", RequestTooLarge),
    ("message larger than max", RequestTooLarge),
    ("permission denied", PermissionDenied),
    ("authentication failed", NotAuthenticated),
    ("user name is empty", NotAuthenticated),
)
_MENDED_BY: dict[type[StoreError], str] = {
    StoreFull: "etcd's quota is used up; make room: compact, defrag, alarm disarm",
    PermissionDenied: "the user needs a role with readwrite on the prefix /remesh/",
    NotAuthenticated: "see --store-user and --store-password-file",
}
_AMBIGUOUS = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.ABORTED,
}


def judge(code: grpc.StatusCode, details: str) -> Verdict | StoreError:
    """What to make of a status; an error is to be raised.

    etcd tells most of its own errors by their text alone ("etcdserver: …"), the codes are coarse.
    """
    if any(text in details for text in _STALE):
        return Verdict.STALE_TOKEN
    if any(text in details for text in _UNDONE):
        return Verdict.UNDONE
    for text, error in _REFUSED:
        if text in details:
            return error(f"{details}: {_MENDED_BY[error]}" if error in _MENDED_BY else details)
    if "has been compacted" in details:
        return RevisionCompacted(0)
    if code in _AMBIGUOUS:
        return Verdict.UNCERTAIN
    return StoreRefused(f"{code.name}: {details}")
