"""Processes of a run that are stopped for some seconds: the bits are the same, and the time is not
called good."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psutil
import pytest

from tests.integration.launcher.crew import Crew, job
from tests.integration.launcher.launching import Launcher, wait_for
from trainer.audit import audit, read_record

STOP_SECONDS = 4.0
CLOSE_SECONDS = 1.6
"""Of a standstill so much may be missed: its agent looks twice a second."""
STEPS = 60
JOB = job(train={"steps": STEPS, "pieces": 4}, elastic={"beat_timeout": 60})
LEASED = job(train={"steps": STEPS, "pieces": 4}, elastic={"beat_timeout": 9})


@pytest.fixture(scope="module")
def sha256(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The weights of the job that nothing happens to."""
    launcher = Launcher(tmp_path_factory.mktemp("undisturbed"))
    try:
        crew = Crew(launcher, JOB)
        ended = launcher.end(crew.agent("a", "--set", "elastic.nodes=1"))
        assert ended.code == 0, ended.err
        yield crew.summary()["weights_sha256"]
    finally:
        launcher.close()


def workers_of(agent: psutil.Popen) -> list[psutil.Process]:
    return [child for child in agent.children(recursive=True) if is_worker(child)]


def is_worker(process: psutil.Process) -> bool:
    return "trainer.worker" in " ".join(process.cmdline())


def stop(processes: Iterable[psutil.Process], *, until: Callable[[], bool]) -> float:
    """Stop them all until it holds, and let them go on, the first as the last; the seconds in
    between."""
    stopped = list(processes)
    began = time.monotonic()
    for process in stopped:
        os.kill(process.pid, signal.SIGSTOP)
    wait_for(until, "the processes were stopped for long enough")
    for process in reversed(stopped):
        os.kill(process.pid, signal.SIGCONT)
    return time.monotonic() - began


def for_seconds(seconds: float) -> Callable[[], bool]:
    over = time.monotonic() + seconds
    return lambda: time.monotonic() > over


def check(crew: Crew, sha256: str) -> dict[str, Any]:
    """The run has done all its steps, in these weights, and its record holds."""
    summary = crew.summary()
    assert summary["weights_sha256"] == sha256
    assert crew.steps() == list(range(1, STEPS + 1))
    parts = [summary[f"{part}_seconds"] for part in ("good", "stood_still", "other")]
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(summary["wall_seconds"])
    found = audit(read_record(crew.root))
    assert found.sound, found.to_dict()
    return summary


@pytest.mark.parametrize("who", ["a worker", "the agent and its workers"])
def test_time_in_which_processes_were_stopped_is_not_good(
    launcher: Launcher, sha256: str, who: str
) -> None:
    crew = Crew(launcher, JOB)
    agent = crew.agent("a", "--set", "elastic.nodes=1")
    crew.reach(10)
    stopped = all_of(agent) if who != "a worker" else ranked(crew, 1)
    seconds = stop(stopped, until=for_seconds(STOP_SECONDS))
    ended = launcher.end(agent)
    assert ended.code == 0, ended.err
    summary = check(crew, sha256)
    assert summary["stood_still_seconds"] > seconds - CLOSE_SECONDS
    assert summary["good_seconds"] <= summary["wall_seconds"] - seconds + CLOSE_SECONDS
    assert "for 0:0" in ended.out.partition("goodput")[2]
    (told,) = [e for e in crew.events("node.stood_still") if e["seconds"] > STOP_SECONDS / 2]
    assert told["node"] == "a"
    assert ("did not run" in told["reason"]) == (who != "a worker")


def ranked(crew: Crew, rank: int) -> list[psutil.Process]:
    return [psutil.Process(e["pid"]) for e in crew.events("worker.begin") if e["rank"] == rank]


def test_what_other_nodes_stand_still_for_and_one_that_is_left_behind(
    launcher: Launcher, sha256: str
) -> None:
    """
    1. All of the second node is stopped for less than its lease. Nobody tells the first, which
       keeps the record and whose own processes wait: the steps do.
    2. All of the first node is stopped, for longer than its lease.
    3. The second goes on without it, and keeps the record.
    4. The first comes back to a generation without it, and waits or is taken in.
    """
    crew = Crew(launcher, LEASED)
    agents = {node: crew.agent(node) for node in ("a", "b")}
    crew.await_members("a", "b")
    crew.reach(10)
    keeper, other = crew.members()[-1]
    seconds = stop(all_of(agents[other]), until=for_seconds(STOP_SECONDS))
    crew.reach(len(crew.steps()) + 10)
    assert crew.members() == [[keeper, other]]

    goal = len(crew.steps()) + 5
    stop(
        all_of(agents[keeper]),
        until=lambda: crew.members()[-1] == [other] and len(crew.steps()) >= goal,
    )
    ended = {node: launcher.end(agent) for node, agent in agents.items()}
    assert ended[other].code == 0, ended[other].err
    summary = check(crew, sha256)
    told = [e for e in crew.events("node.stood_still") if e["seconds"] > STOP_SECONDS / 2]
    assert {event["node"] for event in told} == {keeper, other}
    # What falls between two steps was never good.
    assert summary["good_seconds"] <= summary["wall_seconds"] - seconds + CLOSE_SECONDS


def all_of(agent: psutil.Popen) -> list[psutil.Process]:
    return [psutil.Process(agent.pid), *workers_of(agent)]
