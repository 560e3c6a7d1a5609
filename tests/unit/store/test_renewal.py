"""A lease is renewed beside a busy event loop, and not for a dead one."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from rendezvous.errors import LeaseLost, StoreUnavailable
from rendezvous.store import renewal
from rendezvous.store.renewal import ThreadRenewal, over
from rendezvous.store.tenure import Tenure

TTL = 0.5
PATIENCE = 30.0


class Server:
    """Renews every lease; `failure` is raised instead. `enough` renewals set the event."""

    def __init__(self, *, enough: int = 1, failure: Exception | None = None) -> None:
        self.enough, self.failure = enough, failure
        self.renewed = 0
        self.reached, self.closed = threading.Event(), threading.Event()

    def renew(self, lease: int, within: float) -> float:
        if self.failure is not None:
            raise self.failure
        self.renewed += 1
        if self.renewed >= self.enough:
            self.reached.set()
        return TTL

    def close(self) -> None:
        self.closed.set()


def begin(server: Server) -> tuple[ThreadRenewal, asyncio.Task[str]]:
    lease = ThreadRenewal(server, 7, Tenure(time.monotonic(), TTL))
    return lease, asyncio.create_task(lease.run())


@pytest.mark.parametrize(
    ("alive", "now", "why"),
    [
        (99.0, 101.0, ""),
        (100.0, 103.5, ""),
        (100.0, 103.7, "the lease could not be renewed for 3.7 s"),
        (91.5, 101.0, ""),
        (90.5, 101.0, "the event loop has stood still for 10.5 s"),
        (90.5, 105.0, "the event loop has stood still for 14.5 s"),
    ],
)
def test_when_a_lease_is_not_renewed(alive, now, why):
    assert over(Tenure(100.0, 4.0), alive, now) == why


async def test_a_busy_event_loop_does_not_cost_the_lease(monkeypatch):
    monkeypatch.setattr(renewal, "STALLS", 1000.0)
    server = Server(enough=4)
    lease, running = begin(server)
    await asyncio.sleep(0)
    # Nothing else runs on the loop for longer than the lease; it takes a third of it to renew.
    assert server.reached.wait(PATIENCE)
    assert lease.tenure.held(time.monotonic())
    running.cancel()


async def test_a_dead_event_loop_does_not_keep_the_lease():
    server = Server()
    lease, running = begin(server)
    await asyncio.sleep(0)
    assert server.closed.wait(PATIENCE), "renewed for a loop that does not move"
    assert server.renewed > 0
    assert await asyncio.wait_for(running, PATIENCE)
    while lease.tenure.held(time.monotonic()):
        await asyncio.sleep(0.01)


async def test_a_lease_that_is_gone_ends_it_at_once():
    _, running = begin(Server(failure=LeaseLost("lease 7 has run out")))
    assert await asyncio.wait_for(running, PATIENCE) == "lease 7 has run out"


async def test_a_store_that_is_away_ends_it_when_the_lease_does():
    lease, running = begin(Server(failure=StoreUnavailable("nobody answers")))
    assert "could not be renewed" in await asyncio.wait_for(running, PATIENCE)
    assert not lease.tenure.held(time.monotonic())


async def test_who_stops_leading_renews_no_more():
    server = Server()
    _, running = begin(server)
    await asyncio.to_thread(server.reached.wait, PATIENCE)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await asyncio.to_thread(server.closed.wait, PATIENCE)


async def test_a_renewal_that_fails_by_a_fault_of_ours_ends_the_leadership() -> None:
    """Else a leader would go on after its lease has run out, and never hear that another leads."""
    lease, renewing = begin(Server(failure=ZeroDivisionError("a fault of ours")))
    assert "a fault of ours" in await asyncio.wait_for(renewing, PATIENCE)
    assert lease.tenure.ttl == TTL
