"""What torchrun's agent would call, on a real service: two handlers in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousTimeoutError,
)

from rendezvous.session import Operator
from rendezvous.torchrun.service_handler import ServiceHandler, create_handler
from tests.rendezvous_services import ServiceProcess

PATIENCE = 120.0

Make = Callable[[int, int], ServiceHandler]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess.start("memory", tmp_path / "service.txt") as service:
        yield service


@pytest.fixture
async def make(service: ServiceProcess) -> AsyncIterator[Make]:
    handlers: list[ServiceHandler] = []

    def make(least: int, most: int) -> ServiceHandler:
        conf = {"beat_timeout": "10", "last_call_timeout": "2", "grow_interval": "0.1"}
        parameters = RendezvousParameters(
            "remesh", service.endpoint, "job", least, most, None, **conf
        )
        handlers.append(create_handler(parameters))
        return handlers[-1]

    yield make
    for handler in handlers:
        await asyncio.to_thread(handler.leave)


async def entered(*handlers: ServiceHandler) -> list[RendezvousInfo]:
    """All of them enter, one generation, and can read what the first writes into its store."""
    async with asyncio.timeout(PATIENCE):
        infos = await asyncio.gather(*(asyncio.to_thread(h.next_rendezvous) for h in handlers))
    assert {info.world_size for info in infos} == {len(handlers)}
    assert sorted(info.rank for info in infos) == list(range(len(handlers)))
    assert all(not info.store.check(["who"]) for info in infos), "the store is fresh"
    infos[0].store.set("who", "first")
    assert {info.store.get("who") for info in infos} == {b"first"}
    return infos


async def told(*handlers: ServiceHandler) -> None:
    """All are to restart their workers."""
    async with asyncio.timeout(PATIENCE):
        while not all(handler.num_nodes_waiting() for handler in handlers):
            await asyncio.sleep(0.01)


async def test_a_failed_worker_and_a_joiner_move_all(make: Make) -> None:
    a, b = make(2, 3), make(2, 3)
    first = await entered(a, b)
    assert a.num_nodes_waiting() == b.num_nodes_waiting() == 0
    renewal = asyncio.create_task(asyncio.to_thread(a.next_rendezvous))
    await told(b)
    second = [await renewal, await asyncio.to_thread(b.next_rendezvous)]
    assert [info.rank for info in first] == [info.rank for info in second], "ranks stay"
    bootstraps = [info.bootstrap_store_info for info in (*first, *second)]
    ports = {bootstrap.master_port for bootstrap in bootstraps if bootstrap is not None}
    assert len(ports) == 2, "each generation has a socket of its own"
    c = make(2, 3)
    joining = asyncio.create_task(asyncio.to_thread(c.next_rendezvous))
    await told(a, b)
    calls = [asyncio.to_thread(handler.next_rendezvous) for handler in (a, b)]
    third = await asyncio.gather(*calls, joining)
    assert [(info.rank, info.world_size) for info in third] == [
        (first[0].rank, 3),
        (first[1].rank, 3),
        (2, 3),
    ]


async def test_a_drained_node_ends_and_the_other_goes_on(
    make: Make, service: ServiceProcess
) -> None:
    a, b = make(1, 2), make(1, 2)
    await entered(a, b)
    async with Operator([service.endpoint]) as operator:
        await operator.drain("job", a._attendance.node, grace=60.0, reason="maintenance")
    await told(a, b)

    def leave() -> object:
        # An exception that ends processes would end the test's event loop.
        with pytest.raises(SystemExit) as ended:
            a.next_rendezvous()
        return ended.value.code

    leaving = asyncio.create_task(asyncio.to_thread(leave))
    await entered(b)
    assert await leaving == 0
    assert a.shutdown()
    assert not b.is_closed()


async def test_whoever_closes_closes_for_all(make: Make) -> None:
    a, b = make(1, 2), make(1, 2)
    await entered(a, b)
    await asyncio.to_thread(a.set_closed)
    await told(b)
    assert b.is_closed()
    with pytest.raises(RendezvousClosedError, match="closed by"):
        await asyncio.to_thread(b.next_rendezvous)


async def test_a_job_that_failed_for_good_fails_for_all(make: Make) -> None:
    a, b = make(1, 2), make(1, 2)
    await entered(a, b)

    def give_up() -> None:
        try:
            failure = ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file="")
            raise ChildFailedError("train.py", {0: failure})
        except ChildFailedError:
            a.shutdown()

    await asyncio.to_thread(give_up)
    await told(b)
    with pytest.raises(RendezvousClosedError, match="failed for good"):
        await asyncio.to_thread(b.next_rendezvous)


async def test_without_a_service_it_gives_up_in_time() -> None:
    conf = {"join_timeout": "0.5"}
    handler = create_handler(RendezvousParameters("remesh", "127.0.0.1:9", "job", 1, 1, **conf))
    with pytest.raises(RendezvousTimeoutError, match="no service at"):
        await asyncio.to_thread(handler.next_rendezvous)
    await asyncio.to_thread(handler.shutdown)
