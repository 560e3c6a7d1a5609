"""What a failure means, how far a watch has come, and how values become messages."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.errors import (
    ConfigurationError,
    LeaseLost,
    NotAuthenticated,
    PermissionDenied,
    RequestTooLarge,
    RevisionCompacted,
    StoreError,
    StoreFull,
    StoreRefused,
)
from rendezvous.etcd import Access, Deadlines, translate
from rendezvous.etcd.endpoint import LONGEST_PAUSE, options, pause_after
from rendezvous.etcd.verdict import Verdict, hint, judge
from rendezvous.etcd.watch import Cursor
from rendezvous.store import Compacted, Guard
from rendezvous.wire import etcd_pb2 as wire

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "verdict"),
    [
        (Code.UNAVAILABLE, "failed to connect to all addresses; last error: …", Verdict.UNDONE),
        (Code.UNAVAILABLE, "etcdserver: no leader", Verdict.UNDONE),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests", Verdict.UNDONE),
        (Code.UNAVAILABLE, "etcdserver: rpc not supported for learner", Verdict.UNDONE),
        (Code.UNAVAILABLE, "Socket closed", Verdict.UNCERTAIN),
        (Code.UNAVAILABLE, "etcdserver: leader changed", Verdict.UNCERTAIN),
        (Code.UNAVAILABLE, "etcdserver: request timed out", Verdict.UNCERTAIN),
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", Verdict.UNCERTAIN),
        (Code.UNKNOWN, "Stream removed", Verdict.UNCERTAIN),
        (Code.UNAUTHENTICATED, "etcdserver: invalid auth token", Verdict.STALE_TOKEN),
        (
            Code.INVALID_ARGUMENT,
            "etcdserver: revision of auth store is old",
            Verdict.STALE_TOKEN,
        ),
    ],
)
def test_failures_that_may_be_tried_again(code: Code, details: str, verdict: Verdict) -> None:
    assert judge(code, details) is verdict


@pytest.mark.parametrize(
    ("code", "details", "error"),
    [
        (Code.NOT_FOUND, "etcdserver: requested lease not found", LeaseLost),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", StoreFull),
        (Code.INVALID_ARGUMENT, "etcdserver: request is too large", RequestTooLarge),
        (
            Code.INVALID_ARGUMENT,
            "etcdserver: too many operations in txn request",
            RequestTooLarge,
        ),
        (Code.PERMISSION_DENIED, "etcdserver: permission denied", PermissionDenied),
        (
            Code.INVALID_ARGUMENT,
            "etcdserver: authentication failed, invalid user ID or password",
            NotAuthenticated,
        ),
        (Code.INVALID_ARGUMENT, "etcdserver: user name is empty", NotAuthenticated),
        (
            Code.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision has been compacted",
            RevisionCompacted,
        ),
        (Code.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request", StoreRefused),
        (Code.UNIMPLEMENTED, "unknown service", StoreRefused),
    ],
)
def test_failures_that_will_stay(code: Code, details: str, error: type[StoreError]) -> None:
    verdict = judge(code, details)
    assert isinstance(verdict, StoreError)
    assert type(verdict) is error


def put(key: bytes, revision: int) -> wire.Event:
    return wire.Event(
        type=wire.Event.PUT, kv=wire.KeyValue(key=key, mod_revision=revision, version=1)
    )


def test_a_cursor_moves_by_events_not_by_headers() -> None:
    """While a watch catches up, the header is ahead of what was told."""
    cursor = Cursor(5)
    created = wire.WatchResponse(created=True, header=wire.ResponseHeader(revision=90))
    assert cursor.take(created) is None
    assert cursor.next == 5
    answer = wire.WatchResponse(
        header=wire.ResponseHeader(revision=90), events=[put(b"a", 7), put(b"b", 7), put(b"a", 9)]
    )
    told = cursor.take(answer)
    assert told is not None
    assert told.revision == 9
    assert cursor.next == 10


def test_a_cursor_moves_over_quiet_revisions() -> None:
    cursor = Cursor(5)
    assert cursor.take(wire.WatchResponse(header=wire.ResponseHeader(revision=90))) is None
    assert cursor.next == 91


def test_a_cursor_tells_of_a_compaction() -> None:
    answer = wire.WatchResponse(canceled=True, compact_revision=12)
    assert Cursor(5).take(answer) == Compacted(12)


@pytest.mark.parametrize(("revision", "told"), [(48, Compacted(48)), (49, None), (60, None)])
def test_a_cursor_begins_anew_where_the_store_is_older_than_what_it_told(
    revision: int, told: Compacted | None
) -> None:
    answer = wire.WatchResponse(created=True, header=wire.ResponseHeader(revision=revision))
    cursor = Cursor(50)
    assert cursor.take(answer) == told
    assert cursor.next == 50


@given(prefix=st.text(), key=st.text())
def test_a_range_holds_exactly_the_keys_with_the_prefix(prefix: str, key: str) -> None:
    if not key:
        return
    start, end = translate.range_of(prefix)
    inside = start <= key.encode() and (end == b"\0" or key.encode() < end)
    assert inside == key.startswith(prefix)


def test_a_guard_must_fit_its_field() -> None:
    with pytest.raises(ValueError, match="can't be compared"):
        translate.compare(Guard("a", "version", b"1"))


def test_halves_of_pairs_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs its key"):
        Access(cert=b"pem")
    with pytest.raises(ConfigurationError, match="needs a password"):
        Access(user="root")
    with pytest.raises(ConfigurationError, match="attempt"):
        Deadlines(attempt=6.0)


def test_secrets_stay_out_of_reprs() -> None:
    assert "geheim" not in repr(Access(user="root", password="geheim"))


def test_pauses_grow_with_each_round_of_all_members_and_stay_short() -> None:
    assert all(pause_after(failures, 3) <= 0.1 for failures in (1, 2))
    assert all(0.02 * 4 <= pause_after(failures, 3) <= 0.1 * 4 for failures in (6, 8))
    assert pause_after(10_000, 3) == LONGEST_PAUSE


def test_a_key_that_is_no_text_is_shown_and_breaks_nothing() -> None:
    kv = wire.KeyValue(key=b"/remesh/v1/caf\xe9", value=b"x")
    assert translate.entry(kv).key == "/remesh/v1/caf\\xe9"
    event = wire.Event(type=wire.Event.DELETE, kv=kv)
    assert translate.changes([event]).changes[0].key == "/remesh/v1/caf\\xe9"


@pytest.mark.parametrize(
    ("text", "tls", "advice"),
    [
        ("etcdserver: no leader", False, "no quorum"),
        ("DEADLINE_EXCEEDED: Deadline Exceeded", True, "no quorum"),
        ("etcdserver: rpc not supported for learner", True, "promote it"),
        ("Handshake read failed (Socket closed)", True, "say etcd://"),
        ("Socket closed", False, "say etcds://"),
        ("Socket closed", True, ""),
        ("connection attempt timed out before receiving SETTINGS frame", False, "--store-timeout"),
        ("Connection refused", False, ""),
    ],
)
def test_what_mends_it_is_said_where_it_is_known(text: str, tls: bool, advice: str) -> None:
    said = hint(text, tls=tls)
    assert (advice in said) if advice else not said


def test_a_slow_way_is_named_with_what_to_set_and_then_waited_for() -> None:
    """grpc gives up a connection after a time of its own, which follows ours."""
    assert "--store-timeout 6" in Deadlines().no_connection
    assert ("grpc.min_reconnect_backoff_ms", 4000) in options(Deadlines.of(6.0).connect)
    assert ("grpc.min_reconnect_backoff_ms", 1000) in options(0.1)
