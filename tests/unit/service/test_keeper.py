"""What a keeper says, and when it must be silent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rendezvous.errors import Deposed
from rendezvous.membership import JobSpec, Record
from rendezvous.service.actions import Send
from rendezvous.service.actions import Write as StoreWrite
from rendezvous.service.job import Job
from rendezvous.service.keeper import Keeper
from rendezvous.service.metrics import Metrics
from rendezvous.service.outbox import Outbox
from rendezvous.store import Write

METRICS = Metrics()
RECORD = Record(spec=JobSpec())


class Leader:
    """Its writes wait until `answer` is there, and then end as it says."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def write(self, writes: Sequence[Write]) -> int:
        return await self.answer


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
