"""A watch that goes on where it was, over lost connections and dead members."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import grpc
import grpc.aio

from rendezvous.errors import PermissionDenied, StoreError, StoreUnavailable
from rendezvous.etcd.connection import Connection
from rendezvous.etcd.endpoint import Endpoint, Metadata
from rendezvous.etcd.methods import WATCH
from rendezvous.etcd.translate import changes, range_of
from rendezvous.etcd.verdict import Verdict, judge
from rendezvous.store.values import Changes, Compacted
from rendezvous.wire import etcd_pb2 as wire


@dataclass(slots=True)
class Cursor:
    """How far a watch has told. Pure.

    An answer's header may be ahead of its events while the watch catches up, so only events, and
    answers that say "nothing up to here", move it.

    The first answer's header says where the store is. Before what was told already: then it was
    restored to an older state, or this member of it lags behind, and a watch would wait in silence
    for a revision that is yet to come, of another history.
    """

    next: int

    def take(self, answer: wire.WatchResponse) -> Changes | Compacted | None:
        """What to tell of an answer; None when there is nothing to tell."""
        if answer.compact_revision:
            return Compacted(answer.compact_revision)
        if answer.created and answer.header.revision < self.next - 1:
            return Compacted(answer.header.revision)
        if answer.events:
            told = changes(list(answer.events))
            self.next = told.revision + 1
            return told
        if not answer.created and not answer.canceled:
            self.next = max(self.next, answer.header.revision + 1)
        return None


async def watch(
    connection: Connection, prefix: str, *, start: int
) -> AsyncGenerator[Changes | Compacted, None]:
    """See Store.watch. Raises StoreRefused."""
    cursor = Cursor(start)
    renewed, failures = False, 0
    while not connection.closed:
        endpoint = connection.current
        metadata: Metadata = ()
        verdict: Verdict | StoreError = Verdict.UNCERTAIN
        try:
            metadata = await connection.metadata()
            async with aclosing(_answers(connection, endpoint, metadata, prefix, cursor)) as stream:
                async for answer in stream:
                    if connection.introductions.differs(endpoint, answer.header.cluster_id):
                        break
                    if answer.canceled and not answer.compact_revision:
                        verdict = judge(grpc.StatusCode.UNAVAILABLE, answer.cancel_reason)
                        break
                    renewed, failures = False, 0
                    told = cursor.take(answer)
                    if told is not None:
                        yield told
                    if isinstance(told, Compacted):
                        return
        except grpc.aio.AioRpcError as error:
            verdict = judge(error.code(), error.details() or "")
        except (StoreUnavailable, TimeoutError):
            verdict = Verdict.UNDONE
        except asyncio.CancelledError:
            # A closing channel cancels its calls as if the task were meant.
            if _cancelling():
                raise
        # Old servers call an expired token a missing permission: believe it of a fresh one only.
        if verdict is Verdict.STALE_TOKEN or isinstance(verdict, PermissionDenied):
            if renewed:
                raise PermissionDenied(f"watch of {prefix!r}: {verdict}")
            renewed = True
            await connection.renew_token(metadata)
        elif isinstance(verdict, StoreError):
            raise verdict
        else:
            connection.leave(endpoint)
            failures += 1
            await asyncio.sleep(connection.pause_after(failures))


async def _answers(
    connection: Connection, endpoint: Endpoint, metadata: Metadata, prefix: str, cursor: Cursor
) -> AsyncGenerator[wire.WatchResponse, None]:
    """One stream's answers until it ends; a member that does not take the watch on is given up."""
    if not await endpoint.reach(connection.deadlines.connect):
        raise StoreUnavailable(f"{endpoint.address}: no connection")
    if problem := await connection.introductions.problem(endpoint, connection.deadlines.attempt):
        raise StoreUnavailable(f"{endpoint.address}: {problem}")
    key, range_end = range_of(prefix)
    request = wire.WatchCreateRequest(
        key=key, range_end=range_end, start_revision=cursor.next, progress_notify=True
    )
    call = endpoint.stream(WATCH, metadata=metadata)
    try:
        async with asyncio.timeout(connection.deadlines.attempt):
            await call.write(wire.WatchRequest(create_request=request))
            answer = await call.read()
        while isinstance(answer, wire.WatchResponse):
            yield answer
            answer = await call.read()
    finally:
        call.cancel()


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
