"""What a keeper says, and when it must be silent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rendezvous.errors import Deposed
from rendezvous.membership import JobSpec, Record
from rendezvous.service.actions import Send
from rendezvous.service.actions import Write as StoreWrite
from rendezvous.service.job import Job
from rendezvous.service.keeper import PAUSE_AFTER_FAILURE, Keeper
from rendezvous.service.metrics import Metrics
from rendezvous.service.outbox import Outbox
from rendezvous.store import Write
from tests.virtual_time import run

METRICS = Metrics()
RECORD = Record(spec=JobSpec())


class Leader:
    """Its writes wait until `answer` is there, and then end as it says."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.given_up: list[str] = []

    async def write(self, writes: Sequence[Write]) -> int:
        return await self.answer

    def give_up(self, reason: str) -> None:
        self.given_up.append(reason)


def keeper_of(leader: Leader) -> tuple[Keeper, Outbox]:
    outbox = Outbox(0.0, 1.0)
    job = Job("job", service="s:1", pulse=1.0, most_nodes=10)
    return Keeper(job, leader, {1: outbox}, METRICS), outbox  # type: ignore[arg-type]


async def test_what_is_said_waits_for_what_is_stored():
    leader = Leader()
    keeper, outbox = keeper_of(leader)
    keeper.run(lambda now: [StoreWrite(RECORD), Send((1,), b"told")])
    hearing = asyncio.ensure_future(outbox.take())
    await asyncio.sleep(0)
    assert not hearing.done()
    leader.answer.set_result(5)
    assert await hearing == b"told"


async def test_who_could_not_store_it_says_nothing_more():
    """Whatever it decides on what only it knows; the next leader knows better."""
    leader = Leader()
    keeper, outbox = keeper_of(leader)
    keeper.run(lambda now: [StoreWrite(RECORD), Send((1,), b"told")])
    leader.answer.set_exception(Deposed("another leads"))
    await keeper.settle()
    keeper.run(lambda now: [Send((1,), b"told to who came just now")])
    outbox.close()
    assert await outbox.take() is None


class Ticking:
    """A job that is to be looked at in 3 s, and whose ticks fail at first."""

    run_id = "job"

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.ticked: list[float] = []

    def next_deadline(self) -> float | None:
        return None if self.ticked and not self.failures else 3.0

    def tick(self, now: float) -> list[Send]:
        self.ticked.append(now)
        if self.failures:
            self.failures -= 1
            raise ZeroDivisionError
        return [Send((1,), b"told")]


def test_a_tick_that_fails_is_not_the_last() -> None:
    """Else no lost node would be noticed any more."""

    async def main() -> tuple[list[float], bytes | None]:
        leader, outbox = Leader(), Outbox(0.0, 1.0)
        job = Ticking(failures=2)
        keeper = Keeper(job, leader, {1: outbox}, METRICS)  # type: ignore[arg-type]
        keeper.run(lambda now: [])
        told = await outbox.take()
        keeper.close()
        return job.ticked, told

    assert run(main()) == ([3.0, 3.0 + PAUSE_AFTER_FAILURE, 3.0 + 2 * PAUSE_AFTER_FAILURE], b"told")


async def test_who_can_not_write_for_an_unknown_reason_leads_no_longer() -> None:
    """1. a write ends as nobody has foreseen; 2. what was to be told after it never is; 3. another
    leader, or this one anew, goes on from what is stored."""
    leader = Leader()
    keeper, outbox = keeper_of(leader)
    keeper.run(lambda now: [StoreWrite(RECORD), Send((1,), b"told")])
    leader.answer.set_exception(ZeroDivisionError("a fault of ours"))
    await keeper.settle()
    await asyncio.sleep(0)
    keeper.run(lambda now: [Send((1,), b"told to who came just now")])
    outbox.close()
    assert await outbox.take() is None
    assert len(leader.given_up) == 1
    assert "a fault of ours" in leader.given_up[0]
