"""What docs/operating.md says to type when etcd is in trouble, typed as it stands there."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from rendezvous.errors import StoreFull
from rendezvous.etcd import EtcdClient
from tests.attendants import PATIENCE, Crew, spec_of
from tests.etcd_server import EtcdCluster, EtcdServer, binary
from tests.rendezvous_services import REPOSITORY, ServiceProcess

SPEC = spec_of(1, 3, beat_timeout=2.0, leader_grace=3.0)


def _block(heading: str) -> str:
    """The first commands under a heading."""
    page = (REPOSITORY / "docs" / "operating.md").read_text()
    lines = page.partition(f"\n### {heading}\n")[2].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("    "))
    block = []
    for line in lines[first:]:
        if not line.startswith("    "):
            break
        block.append(line.removeprefix("    "))
    return "\n".join(block)


def _type(commands: str, endpoint: str) -> None:
    """Into a shell on a machine that has etcd's tools."""
    tools = Path(binary("etcdctl")).parent
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env={
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "ETCDCTL_ENDPOINTS": endpoint,
            "ETCDCTL_API": "3",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _restore(cluster: EtcdCluster, backup: Path, commands: str) -> None:
    """On each machine, and start it on the new directory."""
    initial = ",".join(f"{member.name}={member.peer_url}" for member in cluster.members)
    for member in cluster.members:
        new = member.directory.with_suffix(".new")
        here = (
            commands.replace("/backup/etcd.db", str(backup))
            .replace("NAME=PEER_URL,…", initial)
            .replace("PEER_URL", member.peer_url)
            .replace("NAME", member.name)
            .replace("NEW", str(new))
        )
        _type(here, member.endpoint)
        member.move_to(new)
    for member in cluster.members:
        member.launch()
    for member in cluster.members:
        member.wait_ready()


async def test_restored_from_a_snapshot(tmp_path: Path) -> None:
    """
    1. Two nodes are in generation 1: that is the snapshot. They go on to generation 2.
    2. All members end, are restored, and start on their new directories. The service and the
       agents run through all of it.
    3. Generation 3 begins, and the log says from where to where the store went.
    """
    save, _, restore = _block("Restored from a snapshot").partition("# stop every member")
    restore = restore.partition("\n")[2]
    backup = tmp_path / "etcd.db"
    with (
        EtcdCluster.start(tmp_path) as cluster,
        ServiceProcess.start(cluster.url, tmp_path / "log") as service,
    ):
        async with Crew([service.endpoint], SPEC) as crew:
            a, b = await crew.join("a", "b")
            for one in crew.all:
                await one.until(lambda one=one: sorted(one.members) == ["a", "b"])  # type: ignore[misc]
            first = max(generation.number for generation in a.generations)
            _type(save.replace("/backup/etcd.db", str(backup)), cluster.members[0].endpoint)
            await b.fail_worker(0)
            second = (await crew.formed(first + 1)).number
            for member in cluster.members:
                member.kill()
            await _logged(service, "no longer leading")
            await asyncio.to_thread(_restore, cluster, backup, restore)
            generation = await crew.formed(second + 1)
            assert {member.node for member in generation.members} == {"a", "b"}
            said = f"the store went back from generation {second}, which its members are in, to"
            assert said in service.log
            assert service.running


async def test_full(tmp_path: Path) -> None:
    quota = ["--quota-backend-bytes=8388608"]
    with EtcdServer.start(tmp_path, options=quota) as etcd:
        client = EtcdClient([etcd.endpoint])
        with pytest.raises(StoreFull, match="alarm disarm"):
            await _fill(client)
        etcd.ctl("del", "--prefix", "/other/")
        await asyncio.to_thread(_type, _block("Full"), etcd.endpoint)
        await client.put("/remesh/x", b"1")
        assert client.trouble == ""
        await client.close()


async def _fill(client: EtcdClient) -> None:
    for number in range(40):
        await client.put(f"/other/{number}", b"x" * 1_000_000)


async def _logged(service: ServiceProcess, words: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while words not in service.log:
            await asyncio.sleep(0.1)
