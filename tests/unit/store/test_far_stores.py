"""A store that is far away: the lease is as long as its round trips need."""

from __future__ import annotations

import asyncio
import logging

import pytest

from rendezvous.store import Entry, Lease, MemoryStore
from rendezvous.store.election import LONGEST_LEASE, stand
from tests import virtual_time


class Far(MemoryStore):
    """Answers after `trips` seconds, one after the other, and then at once."""

    def __init__(self, *trips: float) -> None:
        super().__init__()
        self.trips = list(trips)
        self.granted: list[float] = []

    async def get(self, key: str) -> Entry | None:
        await asyncio.sleep(self.trips.pop(0) if self.trips else 0.0)
        return await super().get(key)

    async def grant(self, ttl: float) -> Lease:
        self.granted.append(ttl)
        return await super().grant(ttl)


@pytest.mark.parametrize(
    ("trips", "lease"),
    [
        ([0.1], 4.0),
        ([3.0, 1.0, 1.0], 10.0),
        ([3.0, 0.1], 4.0),
        ([1.0, 1.0, 0.7], 7.0),
        ([30.0, 20.0, 20.0], LONGEST_LEASE),
    ],
    ids=["near", "far, and the first makes a connection", "near, the same", "the best", "too far"],
)
def test_the_lease_is_as_long_as_round_trips_need(
    trips: list[float], lease: float, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        store = Far(*trips)
        leadership = await stand(store, "/lead", b"one", ttl=4.0)
        assert leadership is not None
        assert store.granted == [pytest.approx(lease)]
        await leadership.resign()

    with caplog.at_level(logging.WARNING):
        virtual_time.run(story())
    assert ("so the lease is" in caplog.text) == (lease > 4.0)


def test_a_lease_that_was_asked_to_be_longer_stays_so() -> None:
    async def story() -> None:
        store = Far(1.0, 1.0, 1.0)
        leadership = await stand(store, "/lead", b"one", ttl=100.0)
        assert leadership is not None
        assert store.granted == [100.0]
        await leadership.resign()

    virtual_time.run(story())
