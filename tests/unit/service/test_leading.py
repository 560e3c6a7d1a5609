"""Who stands for election does so for good, whatever fails meanwhile."""

from __future__ import annotations

import asyncio

from rendezvous.service.leading import Candidate
from rendezvous.store import Leadership, MemoryStore
from tests.virtual_time import run

LEASE = 3.0


class Flawed(MemoryStore):
    """Its first `faults` grants end as nobody has foreseen."""

    def __init__(self, faults: int) -> None:
        super().__init__()
        self.faults = faults

    async def grant(self, ttl: float):  # type: ignore[no-untyped-def]
        if self.faults:
            self.faults -= 1
            raise ZeroDivisionError
        return await super().grant(ttl)


def test_an_election_that_fails_is_not_the_last() -> None:
    async def main() -> bool:
        leads = asyncio.Event()

        async def lead(_leadership: Leadership) -> None:
            leads.set()
            await asyncio.sleep(3600)

        candidate = Candidate(Flawed(2), address="a:1", lease=LEASE, lead=lead)
        async with candidate.standing():
            await asyncio.wait_for(leads.wait(), 60)
        return leads.is_set()

    assert run(main())


def test_who_leads_and_fails_stands_again() -> None:
    """What it could not restore is not unheard, and the next leader begins afresh."""

    async def main() -> int:
        led: list[Leadership] = []
        again = asyncio.Event()

        async def lead(leadership: Leadership) -> None:
            led.append(leadership)
            if len(led) == 1:
                raise ZeroDivisionError
            again.set()
            await asyncio.sleep(3600)

        candidate = Candidate(MemoryStore(), address="a:1", lease=LEASE, lead=lead)
        async with candidate.standing():
            await asyncio.wait_for(again.wait(), 60)
        return len(led)

    assert run(main()) == 2
