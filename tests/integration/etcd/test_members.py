"""The members of a real etcd change, and what was given to the client is a list of long ago."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from rendezvous.etcd import EtcdClient, connection
from rendezvous.store import Put, elect
from rendezvous.store.values import Changes
from tests.etcd_server import EtcdServer, free_port
from tests.integration.etcd.history import PATIENCE


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "EVERY", 0.1)


async def _until(client: EtcdClient, holds: Callable[[set[str]], bool]) -> None:
    """The endpoints in use are as they should be; calls go on meanwhile."""
    async with asyncio.timeout(PATIENCE):
        while not holds(set(client.endpoints)):
            await client.get("x")
            await asyncio.sleep(0.05)


def _second(first: EtcdServer) -> EtcdServer:
    """A voting member, which was a learner first: so there is a quorum all the time."""
    # Otherwise nobody may be removed in the first seconds.
    second = first.add("etcd9", "--learner", options=["--strict-reconfig-check=false"])
    _promote(first)
    return second


def _promote(first: EtcdServer) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            first.ctl("member", "promote", first.members()["etcd9"])
        except RuntimeError:
            # It copies the log yet.
            assert time.monotonic() < deadline
            time.sleep(0.2)
            continue
        return


def _remove(first: EtcdServer, second: EtcdServer) -> None:
    """The second goes on alone."""
    members = first.members()
    first.ctl("move-leader", members["etcd9"])
    second.ctl("member", "remove", members["etcd0"])
    first.kill()


async def test_all_members_are_replaced(
    etcd: EtcdServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    1. One leads, its lease renewed in a thread, and a watch stands: both know one endpoint.
    2. A second member is added; the first one is removed and gone for good.
    3. The leader leads on, its writes are watched, and the log says that the list has aged.
    4. A client that is to keep to its list never knew another endpoint.
    """
    caplog.set_level(logging.INFO, logger="rendezvous.etcd")
    client, keeps_to_it = EtcdClient([etcd.endpoint]), EtcdClient([etcd.endpoint], learn=False)
    leadership = await elect(client, "/lead", b"one", ttl=6.0, own_thread=True)
    start = await client.put("/told", b"0")
    async with aclosing(client.watch("/told", start=start)) as told:
        with await asyncio.to_thread(_second, etcd) as second:
            await _until(client, lambda known: known == {etcd.endpoint, second.endpoint})
            for _ in range(5):
                await keeps_to_it.get("x")
                await asyncio.sleep(0.15)
            assert keeps_to_it.endpoints == (etcd.endpoint,)
            await asyncio.to_thread(_remove, etcd, second)
            await leadership.write([Put("/told", b"1")])
            await client.put("/told", b"2")
            heard: list[bytes] = []
            async with asyncio.timeout(PATIENCE):
                while heard[-1:] != [b"2"]:
                    changes = await anext(told)
                    assert isinstance(changes, Changes)
                    heard += [c.entry.value for c in changes.changes if c.entry is not None]
            assert heard == [b"0", b"1", b"2"]
            # Longer than the lease: it was renewed by the other member.
            await asyncio.sleep(6.5)
            assert leadership.held
            async with asyncio.timeout(PATIENCE):
                while "change the list" not in caplog.text:
                    await client.get("x")
                    await asyncio.sleep(0.05)
            assert f"it names {second.endpoint}" in caplog.text
            await leadership.resign()
    await client.close()
    await keeps_to_it.close()


async def test_nonsense_that_members_say_of_themselves_harms_nothing(
    etcd: EtcdServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The wildcard, a port where nobody is, another cluster, and a name that nobody knows."""
    nonsense = [
        f"http://0.0.0.0:{etcd.port}",
        f"http://127.0.0.1:{free_port()}",
        f"http://{etcd.endpoint}",
        "http://no-such-host.invalid:2379",
    ]
    own_port = free_port()
    options = [
        f"--listen-client-urls=http://127.0.0.1:{own_port}",
        f"--advertise-client-urls={','.join(nonsense)}",
    ]
    with EtcdServer.start(tmp_path / "other", options=options):
        given = f"127.0.0.1:{own_port}"
        client = EtcdClient([given])
        for number in range(20):
            await client.put("x", b"%d" % number)
            await asyncio.sleep(0.05)
        assert client.endpoints == (given,)
        assert (await client.get("x")).value == b"19"  # type: ignore[union-attr]
        await client.close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert etcd.ctl("get", "x") == ""


async def test_a_learner_is_not_learnt(etcd: EtcdServer) -> None:
    """It becomes an endpoint when it is promoted."""
    client = EtcdClient([etcd.endpoint])
    await client.put("x", b"1")
    with etcd.add("etcd9", "--learner") as learner:
        for _ in range(10):
            await client.get("x")
            await asyncio.sleep(0.1)
        assert client.endpoints == (etcd.endpoint,)
        await asyncio.to_thread(_promote, etcd)
        await _until(client, lambda known: learner.endpoint in known)
    await client.close()
