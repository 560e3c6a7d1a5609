"""etcd as it is on a disk whose fsync takes long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.etcd_server import EtcdCluster

STALL = 0.5


@asynccontextmanager
async def stalling(cluster: EtcdCluster) -> AsyncIterator[None]:
    """All members are stopped for half a second out of each."""

    async def stall() -> None:
        while True:
            for member in cluster.members:
                member.pause()
            await asyncio.sleep(STALL)
            for member in cluster.members:
                member.resume()
            await asyncio.sleep(STALL)

    task = asyncio.create_task(stall())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        for member in cluster.members:
            member.resume()
