"""What a service says when the matter is with etcd: in its log, and to who asks for the status."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rendezvous.errors import StoreFull
from rendezvous.etcd import EtcdClient
from tests.attendants import Crew, spec_of
from tests.certificates import Certificates
from tests.etcd_server import EtcdCluster, EtcdServer, free_port
from tests.rendezvous_services import REPOSITORY, ServiceProcess

QUICK = ["--store-timeout", "0.6"]
"""Two seconds for a call in all."""


async def _logged(words: str, service: ServiceProcess) -> None:
    async with asyncio.timeout(60):
        while words not in service.log:
            await asyncio.sleep(0.05)


async def _status(service: ServiceProcess) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "rendezvous", "status", "--endpoint", service.endpoint],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=REPOSITORY,
    )


async def _fill(client: EtcdClient) -> None:
    for number in range(40):
        await client.put(f"/other/{number}", b"x" * 1_000_000)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Whoever connects hears nothing."""
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield listening.getsockname()[1]


async def _nobody_leads(service: ServiceProcess, endpoint: str, why: str) -> None:
    """It says so in the log, with the endpoint and the reason, and in its status; and is idle."""
    await _logged(f"etcd does not answer: {endpoint}: {why}", service)
    told = await _status(service)
    assert told.returncode == 1
    assert "no replica leads" in told.stdout
    assert f"store: etcd does not answer: {endpoint}: {why}" in told.stdout
    assert service.log.count("etcd does not answer") == 1, "once a minute"
    assert "Traceback" not in service.log


async def test_no_etcd_at_the_port(tmp_path: Path) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    with ServiceProcess.start(f"etcd://{endpoint}", tmp_path / "log", options=QUICK) as service:
        await _nobody_leads(service, endpoint, "UNAVAILABLE")


async def test_a_port_that_is_silent(silent_port: int, tmp_path: Path) -> None:
    endpoint = f"127.0.0.1:{silent_port}"
    with ServiceProcess.start(f"etcd://{endpoint}", tmp_path / "log", options=QUICK) as service:
        await _nobody_leads(service, endpoint, "")


async def test_tls_to_an_etcd_without(etcd: EtcdServer, tmp_path: Path) -> None:
    store = f"etcds://{etcd.endpoint}"
    with ServiceProcess.start(store, tmp_path / "log", options=QUICK) as service:
        await _nobody_leads(service, etcd.endpoint, "UNAVAILABLE")


async def test_plaintext_to_an_etcd_with_tls(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)
    with EtcdServer.start(tmp_path, certificates=certificates) as etcd:
        store = f"etcd://{etcd.endpoint}"
        with ServiceProcess.start(store, tmp_path / "log", options=QUICK) as service:
            await _nobody_leads(service, etcd.endpoint, "UNAVAILABLE")
            assert "if there is TLS, say etcds:// and --store-tls-ca" in service.log


async def test_a_learner_until_it_is_promoted(etcd: EtcdServer, tmp_path: Path) -> None:
    with await asyncio.to_thread(etcd.add, "etcd9", "--learner") as learner:
        store = f"etcd://{learner.endpoint}"
        with ServiceProcess.start(store, tmp_path / "log", options=QUICK) as service:
            await _nobody_leads(service, learner.endpoint, "a learner answers nobody: promote it")
            async with asyncio.timeout(60):
                while True:
                    try:
                        etcd.ctl("member", "promote", etcd.members()["etcd9"])
                        break
                    except RuntimeError:
                        await asyncio.sleep(0.2)
            await _logged("leading, with token", service)


async def test_no_quorum(tmp_path: Path) -> None:
    with EtcdCluster.start(tmp_path, 2) as cluster:
        cluster.members[1].kill()
        endpoint = cluster.members[0].endpoint
        store = f"etcd://{endpoint}"
        with ServiceProcess.start(store, tmp_path / "log", options=QUICK) as service:
            # It takes a moment to know that, and doesn't answer until then.
            await _logged("no quorum", service)
            await _nobody_leads(service, endpoint, "")
            await asyncio.to_thread(cluster.members[1].restart)
            await _logged("leading, with token", service)


async def test_etcd_goes_and_comes_back(etcd: EtcdServer, tmp_path: Path) -> None:
    with ServiceProcess.start(etcd.url, tmp_path / "log", options=QUICK) as service:
        await _logged("leading, with token", service)
        assert (await _status(service)).returncode == 0
        etcd.kill()
        await _logged("no longer leading", service)
        await _nobody_leads(service, etcd.endpoint, "UNAVAILABLE")
        await asyncio.to_thread(etcd.restart)
        await _logged("etcd answers again", service)
        async with asyncio.timeout(60):
            while (await _status(service)).returncode != 0:
                await asyncio.sleep(0.2)


async def test_a_full_etcd_is_told_with_what_mends_it(tmp_path: Path) -> None:
    """
    1. Two nodes are in generation 1. A neighbour uses up etcd's quota; then one node vanishes.
    2. The log says once what to do, the status too. Nothing else changes.
    3. Somebody does it: the other node enters generation 2.
    """
    quota = ["--quota-backend-bytes=8388608"]
    with (
        EtcdServer.start(tmp_path, options=quota) as etcd,
        ServiceProcess.start(etcd.url, tmp_path / "log") as service,
    ):
        async with Crew([service.endpoint], spec_of(1, 2)) as crew:
            a, b = await crew.join("a", "b")
            await crew.formed(1)
            client = EtcdClient([etcd.endpoint])
            with pytest.raises(StoreFull, match="alarm disarm"):
                await _fill(client)
            await b.vanish()
            await _logged("the store refuses a write", service)
            told = await _status(service)
            assert told.returncode == 0
            assert "make room: compact, defrag, alarm disarm" in told.stdout
            await a.until_steps(50)
            lines = [line for line in service.log.splitlines() if "refuses a write" in line]
            assert len(lines) == 1
            assert "compact, defrag, alarm disarm" in lines[0]
            etcd.ctl("del", "--prefix", "/other/")
            await client.compact((await client.list("/other/")).revision)
            etcd.ctl("defrag")
            etcd.ctl("alarm", "disarm")
            await client.close()
            assert (await a.until_generation(2)).number == 2
            assert "store:" not in (await _status(service)).stdout


def test_a_scheme_within_the_list_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="leave the scheme out"):
        ServiceProcess.start("etcd://http://127.0.0.1:2379", tmp_path / "log")
