"""A service that may open few files, and many who connect and say nothing."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rendezvous.address import split_endpoint
from rendezvous.errors import Unreachable
from rendezvous.session import Operator
from rendezvous.wire import rendezvous_pb2 as wire
from tests.attendants import Crew, spec_of
from tests.rendezvous_services import ServiceProcess

FILES = 96
STRANGERS = 3 * FILES


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess.start("memory", tmp_path / "log") as service:
        psutil.Process(service.pid).rlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
        yield service


async def _status(service: ServiceProcess) -> wire.StatusReply:
    """As soon as one is had: gRPC pauses where it could take nobody in."""
    async with asyncio.timeout(120), Operator([service.endpoint], deadline=5.0) as operator:
        while True:
            with contextlib.suppress(Unreachable):
                return await operator.status()
            await asyncio.sleep(0.2)


async def test_members_go_on_and_others_are_served_when_the_strangers_have_gone(
    service: ServiceProcess,
) -> None:
    place = split_endpoint(service.endpoint)
    async with Crew([service.endpoint], spec_of(1, 3)) as crew:
        a, b = await crew.join("a", "b")
        await crew.formed(1)
        with contextlib.ExitStack() as strangers:
            for _ in range(STRANGERS):
                with contextlib.suppress(OSError):
                    held = socket.create_connection(place, 1)
                    strangers.callback(held.close)
            await a.until_steps(a.steps + 20)
            await b.vanish()
            await crew.formed(2, [a])
        assert (await _status(service)).jobs[0].generation == 2
        (c,) = await crew.join("c")
        await crew.formed(3, [a, c])
    assert "Traceback" not in service.log
