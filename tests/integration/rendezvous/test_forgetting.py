"""`remesh rendezvous forget`, ages over a change of leader, and agents that are refused."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rendezvous.session import JobEnded
from tests.attendants import Crew, spec_of
from tests.etcd_server import EtcdServer
from tests.rendezvous_services import REPOSITORY, ServiceProcess

SCRIPT = "from pathlib import Path\nPath('ran').touch()\n"


def _command(*words: str, services: list[ServiceProcess]) -> subprocess.CompletedProcess[str]:
    endpoints = ",".join(service.endpoint for service in services)
    return subprocess.run(
        [sys.executable, "-m", "rendezvous", *words, "--endpoint", endpoints],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=REPOSITORY,
    )


async def _jobs(services: list[ServiceProcess]) -> tuple[str, dict[str, Any]]:
    """Who leads, and the jobs by name, once somebody leads."""
    async with asyncio.timeout(60):
        while True:
            told = await asyncio.to_thread(_command, "status", "--json", services=services)
            if told.returncode == 0:
                status = json.loads(told.stdout)
                return status["leader"], {job["run_id"]: job for job in status["jobs"]}
            await asyncio.sleep(0.1)


def _records(etcd: EtcdServer) -> list[str]:
    return etcd.ctl("get", "--prefix", "/remesh/v1/", "--keys-only").split()


async def test_jobs_are_forgotten_and_ages_survive_a_change_of_leader(
    etcd: EtcdServer, tmp_path: Path
) -> None:
    """
    1. One job has completed, another goes on, in a generation that is some seconds old.
    2. The leader is killed. The other replica leads, and shows both ages as they were, and more.
    3. What goes on is not forgotten by name; what has completed is, and not in etcd any more.
    """
    with ExitStack() as stack:
        logs = [tmp_path / "1.log", tmp_path / "2.log"]
        both = [stack.enter_context(ServiceProcess.start(etcd.url, log)) for log in logs]
        endpoints = [service.endpoint for service in both]
        async with (
            Crew(endpoints, spec_of(1, 1), run_id="done") as done,
            Crew(endpoints, spec_of(1, 1), run_id="goes-on") as crew,
        ):
            (one,) = await done.join("a")
            await done.formed(1)
            (member,) = await crew.join("a")
            await crew.formed(1)
            await one.session.finished(1, status="completed")
            await one.until_heard(JobEnded)
            async with asyncio.timeout(60):
                while True:
                    leader, jobs = await _jobs(both)
                    if jobs["goes-on"]["generation_age"] > 3.0:
                        break
                    await asyncio.sleep(0.2)
            before = jobs["goes-on"]
            next(service for service in both if service.endpoint == leader).kill()
            left = [service for service in both if service.running]
            async with asyncio.timeout(60):
                while True:
                    _, jobs = await _jobs(left)
                    (node,) = jobs["goes-on"]["nodes"]
                    if node["attending_for"]:
                        break
                    await asyncio.sleep(0.1)
            assert jobs["goes-on"]["generation"] == 1
            assert jobs["goes-on"]["generation_age"] > before["generation_age"]
            assert node["attending_for"] > before["nodes"][0]["attending_for"]

            told = await asyncio.to_thread(
                _command, "forget", "done", "goes-on", "other", services=left
            )
            assert told.returncode == 1
            assert "1 job is forgotten" in told.stdout
            assert "goes-on is not forgotten: it has not ended" in told.stderr
            assert "other is not forgotten: there is no such job" in told.stderr
            assert _records(etcd) == ["/remesh/v1/goes-on/job"]
            await member.until_steps(20)
            await member.session.finished(1, status="completed")
            await member.until_heard(JobEnded)
            told = await asyncio.to_thread(_command, "forget", "--ended", services=left)
            assert (told.returncode, told.stdout, told.stderr) == (0, "1 job is forgotten\n", "")
            assert _records(etcd) == []


def test_usage_of_forget_is_checked_before_anybody_is_asked() -> None:
    nobody: list[ServiceProcess] = []
    for words in (["forget"], ["forget", "--ended", "x"], ["forget", "../x"]):
        assert _command(*words, services=nobody).returncode == 2


def _agent(service: ServiceProcess, folder: Path, node: str, join_timeout: float) -> Any:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    flags = f"--nnodes 1:1 --nproc-per-node 1 --rdzv-id crew --node {node}".split()
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "trainer.command", "run", *flags),
            *("--rdzv-endpoint", service.endpoint),
            *("--rdzv-conf", f"join_timeout={join_timeout:g},last_call_timeout=0.1"),
            *("--run-directory", str(folder / f"runs-{node}"), str(script)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def test_an_agent_that_is_refused_says_so_and_ends_in_the_time_given(
    etcd: EtcdServer, tmp_path: Path
) -> None:
    """
    1. A record of the job lies in etcd that nobody can read. An agent that may wait for 3 s says
       that it is refused, and why, and ends with 75; the service's log has one line of it.
    2. Another one waits on; the record is removed by force; it is taken in, and its script runs.
    """
    etcd.ctl("put", "/remesh/v1/crew/job", "no record")
    with ServiceProcess.start(etcd.url, tmp_path / "log") as service:
        first = _agent(service, tmp_path, "a", 3.0)
        said, _ = first.communicate(timeout=120)
        why = "the stored state of job crew cannot be read"
        assert f"the rendezvous service refuses this node: {why}" in said
        assert f"refused this node for 3 s (join_timeout): {why}" in said
        assert "goes on" not in said
        assert first.returncode == 75
        assert service.log.count("job crew: node a is refused") == 1
        second = _agent(service, tmp_path, "b", 300.0)
        try:
            assert second.stdout is not None
            line = next(line for line in second.stdout if "refuses" in line)
            assert why in line
            told = _command("forget", "crew", services=[service])
            assert told.returncode == 1
            assert "--force" in told.stderr
            assert _command("forget", "crew", "--force", services=[service]).returncode == 0
            assert second.wait(120) == 0
        finally:
            second.kill()
            second.communicate()
    assert (tmp_path / "ran").exists()
