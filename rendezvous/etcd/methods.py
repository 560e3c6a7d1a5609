"""The methods of etcd's API that are called, by path: their messages are ours, the bytes etcd's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from google.protobuf.message import Message

from rendezvous.wire import etcd_pb2 as wire


class Answer(Protocol):
    """Every answer of etcd says in its header who gives it."""

    header: wire.ResponseHeader

    @classmethod
    def FromString(cls, data: bytes, /) -> Self: ...


Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Answer)


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Response]):
    """`repeatable`: doing it twice, or late, is as good as once, so any failure may be retried."""

    path: str
    request: type[Request]
    response: type[Response]
    repeatable: bool
    streams: bool = False


def _kv(name: str) -> str:
    return f"/etcdserverpb.KV/{name}"


def _lease(name: str) -> str:
    return f"/etcdserverpb.Lease/{name}"


RANGE = Method(_kv("Range"), wire.RangeRequest, wire.RangeResponse, True)
PUT = Method(_kv("Put"), wire.PutRequest, wire.PutResponse, False)
DELETE = Method(_kv("DeleteRange"), wire.DeleteRangeRequest, wire.DeleteRangeResponse, False)
TXN = Method(_kv("Txn"), wire.TxnRequest, wire.TxnResponse, False)
COMPACT = Method(_kv("Compact"), wire.CompactionRequest, wire.CompactionResponse, True)

GRANT = Method(_lease("LeaseGrant"), wire.LeaseGrantRequest, wire.LeaseGrantResponse, True)
REVOKE = Method(_lease("LeaseRevoke"), wire.LeaseRevokeRequest, wire.LeaseRevokeResponse, True)
KEEP_ALIVE = Method(
    _lease("LeaseKeepAlive"),
    wire.LeaseKeepAliveRequest,
    wire.LeaseKeepAliveResponse,
    True,
    streams=True,
)
TIME_TO_LIVE = Method(
    _lease("LeaseTimeToLive"), wire.LeaseTimeToLiveRequest, wire.LeaseTimeToLiveResponse, True
)

WATCH = Method(
    "/etcdserverpb.Watch/Watch", wire.WatchRequest, wire.WatchResponse, True, streams=True
)
AUTHENTICATE = Method(
    "/etcdserverpb.Auth/Authenticate", wire.AuthenticateRequest, wire.AuthenticateResponse, True
)
MEMBERS = Method(
    "/etcdserverpb.Cluster/MemberList", wire.MemberListRequest, wire.MemberListResponse, True
)
STATUS = Method("/etcdserverpb.Maintenance/Status", wire.StatusRequest, wire.StatusResponse, True)
