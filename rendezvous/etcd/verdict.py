"""What a failed call means: refused, surely not done, perhaps done, or only a stale token; and what
mends it, as far as its text tells. Pure."""

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
_LEARNER = "not supported for learner"
_UNDONE = ("no leader", "too many requests", "failed to connect to all addresses", _LEARNER)
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
LEARNER = "a learner answers nobody: promote it (etcdctl member promote), or leave it off the list"
_HINTS: tuple[tuple[str, bool | None, str], ...] = (
    ("no leader", None, "the cluster has no quorum: bring back members"),
    ("DEADLINE_EXCEEDED", None, "no quorum, a slow disk, or a slow way: --store-timeout"),
    (_LEARNER, None, LEARNER),
    ("ertificate verify failed", None, "its certificate is of another authority: --store-tls-ca"),
    ("CERTIFICATE_VERIFY_FAILED", None, "its certificate is of another authority: --store-tls-ca"),
    ("Handshake read failed", True, "if there is no TLS, say etcd://"),
    ("WRONG_VERSION_NUMBER", True, "if there is no TLS, say etcd://"),
    ("Socket closed", False, "if there is TLS, say etcds:// and --store-tls-ca"),
    ("Failed parsing HTTP/2", None, "what listens there is not etcd"),
    ("before receiving SETTINGS", None, "nobody speaks there, or the way is slow: --store-timeout"),
)
"""What is in the text of a failure; whether only with TLS (true), only without (false) or in any
case (none); what it may need."""
_AMBIGUOUS = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.ABORTED,
}


def hint(text: str, *, tls: bool) -> str:
    """What may mend a failure that says so, in brackets behind it; empty if nothing is known."""
    for part, only, advice in _HINTS:
        if part in text and only in (None, tls):
            return f" ({advice})"
    return ""


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
