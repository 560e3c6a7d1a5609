"""States of an etcd, and of what its services find there, in which nothing is to be done.

Each is a context that gives the replicas of the service that live in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path

from rendezvous.errors import StoreFull
from rendezvous.etcd import EtcdClient
from rendezvous.service.records import LEADER, job_key
from rendezvous.session import JobEnded
from tests.attendants import Crew, spec_of
from tests.etcd_server import EtcdCluster, EtcdServer, free_port
from tests.rendezvous_services import ServiceProcess

PATIENCE = 120.0
QUOTA = 8 << 20
"""Bytes that the etcd that is to be full may have."""

State = Callable[[Path], AbstractAsyncContextManager[Sequence[ServiceProcess]]]


def _replicas(
    stack: ExitStack, store: str, folder: Path, options: Sequence[str] = ()
) -> list[ServiceProcess]:
    return [
        stack.enter_context(ServiceProcess.start(store, folder / f"{name}.log", options=options))
        for name in ("first", "second")
    ]


async def _logged(words: str, replicas: Sequence[ServiceProcess], times: int = 1) -> None:
    """Return once their logs have it so often."""
    deadline = time.monotonic() + PATIENCE
    while sum(replica.log.count(words) for replica in replicas) < times:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no service says: {words}: {replicas[0].log[-2000:]}")
        await asyncio.sleep(0.05)


async def _end_jobs(etcd: EtcdServer, folder: Path, count: int) -> None:
    """One job is run to its end by a service of its own, and its record copied."""
    with ServiceProcess.start(etcd.url, folder / "earlier.log") as service:
        async with Crew([service.endpoint], spec_of(1, 1), run_id="ended-0") as crew:
            (alone,) = await crew.join("a")
            await crew.formed(1)
            await alone.session.finished(1, status="completed")
            await alone.until_heard(JobEnded)
        service.terminate()
    client = EtcdClient([etcd.endpoint])
    record = await client.get(job_key("ended-0"))
    assert record is not None
    for number in range(1, count):
        await client.put(job_key(f"ended-{number}"), record.value)
    await client.close()


def healthy(jobs: int) -> State:
    """One member; so many jobs have ended."""

    @asynccontextmanager
    async def state(folder: Path) -> AsyncIterator[Sequence[ServiceProcess]]:
        with ExitStack() as stack:
            etcd = stack.enter_context(EtcdServer.start(folder))
            if jobs:
                await _end_jobs(etcd, folder, jobs)
            replicas = _replicas(stack, etcd.url, folder)
            await _logged("leading, with token", replicas)
            yield replicas

    return state


@asynccontextmanager
async def no_quorum(folder: Path) -> AsyncIterator[Sequence[ServiceProcess]]:
    """One of three members is left."""
    with ExitStack() as stack:
        etcd = stack.enter_context(EtcdCluster.start(folder))
        replicas = _replicas(stack, etcd.url, folder)
        await _logged("leading, with token", replicas)
        for member in etcd.members[1:]:
            member.kill()
        await _logged("etcd does not answer", replicas, times=2)
        yield replicas


@asynccontextmanager
async def no_etcd(folder: Path) -> AsyncIterator[Sequence[ServiceProcess]]:
    """Nobody listens."""
    with ExitStack() as stack:
        replicas = _replicas(stack, f"etcd://127.0.0.1:{free_port()}", folder)
        await _logged("etcd does not answer", replicas, times=2)
        yield replicas


@asynccontextmanager
async def full(folder: Path) -> AsyncIterator[Sequence[ServiceProcess]]:
    """The quota is used up, and a job's next generation waits to be written."""
    with ExitStack() as stack:
        quota = [f"--quota-backend-bytes={QUOTA}"]
        etcd = stack.enter_context(EtcdServer.start(folder, options=quota))
        replicas = _replicas(stack, etcd.url, folder)
        await _logged("leading, with token", replicas)
        endpoints = [replica.endpoint for replica in replicas]
        async with Crew(endpoints, spec_of(1, 2)) as crew:
            _stays, goes = await crew.join("a", "b")
            await crew.formed(1)
            client = EtcdClient([etcd.endpoint])
            with contextlib.suppress(StoreFull):
                for number in range(QUOTA >> 19):
                    await client.put(f"/other/{number}", b"x" * 1_000_000)
            await client.close()
            await goes.vanish()
            await _logged("the store refuses a write", replicas)
            yield replicas


@asynccontextmanager
async def restored(folder: Path) -> AsyncIterator[Sequence[ServiceProcess]]:
    """Put back to a snapshot, far behind what the watches have seen; a job had moved on."""
    with ExitStack() as stack:
        etcd = stack.enter_context(EtcdServer.start(folder))
        replicas = _replicas(stack, etcd.url, folder)
        await _logged("leading, with token", replicas)
        endpoints = [replica.endpoint for replica in replicas]
        async with Crew(endpoints, spec_of(1, 2, beat_timeout=2.0, leader_grace=3.0)) as crew:
            (alone,) = await crew.join("a")
            await crew.formed(1)
            snapshot = etcd.snapshot()
            await alone.fail_worker(0)
            await crew.formed(2)
            client = EtcdClient([etcd.endpoint])
            for number in range(100):
                await client.put(f"{LEADER}.beside", b"%d" % number)
            await client.close()
            etcd.kill()
            await _logged("no longer leading", replicas)
            etcd.restore(snapshot)
            await asyncio.to_thread(etcd.restart)
            await crew.formed(3)
        yield replicas


@asynccontextmanager
async def stray_keys(folder: Path) -> AsyncIterator[Sequence[ServiceProcess]]:
    """Keys and words that are not ours in the election and among the records."""
    with ExitStack() as stack:
        etcd = stack.enter_context(EtcdServer.start(folder))
        etcd.ctl("put", f"{LEADER}.beside", "x")
        etcd.ctl("put", "/remesh/v1/other/job", "garbage")
        for key in (f"{LEADER}".encode() + b"\xff", b"/remesh/v1/caf\xe9/job"):
            etcd.put_bytes(key, b"x")
        replicas = _replicas(stack, etcd.url, folder)
        await _logged("leading, with token", replicas)
        etcd.ctl("put", LEADER, "garbage")
        await _logged("somebody has written over", replicas)
        yield replicas


@asynccontextmanager
async def strange_cluster(folder: Path) -> AsyncIterator[Sequence[ServiceProcess]]:
    """One of three endpoints belongs to another cluster; who can do without it may not ask it."""
    with ExitStack() as stack:
        meant = stack.enter_context(EtcdCluster.start(folder / "meant", 2))
        stranger = stack.enter_context(EtcdServer.start(folder / "stranger"))
        replicas = _replicas(stack, f"{meant.url},{stranger.endpoint}", folder)
        await _logged("leading, with token", replicas)
        yield replicas


@asynccontextmanager
async def silent_port(folder: Path) -> AsyncIterator[Sequence[ServiceProcess]]:
    """Whoever connects hears nothing."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        replicas = _replicas(stack, f"etcd://127.0.0.1:{listening.getsockname()[1]}", folder)
        await _logged("etcd does not answer", replicas, times=2)
        yield replicas


@asynccontextmanager
async def wrong_password(folder: Path) -> AsyncIterator[Sequence[ServiceProcess]]:
    """etcd knows the user, and the file of the service has another password."""
    with ExitStack() as stack:
        etcd = stack.enter_context(EtcdServer.start(folder))
        etcd.enable_auth("right")
        file = folder / "password"
        file.write_text("wrong")
        user = ["--store-user", "root", "--store-password-file", str(file)]
        replicas = _replicas(stack, etcd.url, folder, user)
        await _logged("authentication failed", replicas, times=2)
        yield replicas


STATES: dict[str, State] = {
    "healthy": healthy(0),
    "1-ended-job": healthy(1),
    "100-ended-jobs": healthy(100),
    "1000-ended-jobs": healthy(1000),
    "no-quorum": no_quorum,
    "no-etcd": no_etcd,
    "full": full,
    "restored": restored,
    "stray-keys": stray_keys,
    "strange-cluster": strange_cluster,
    "silent-port": silent_port,
    "wrong-password": wrong_password,
}
"""By the name that the benchmark takes."""
