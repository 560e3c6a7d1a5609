"""An agent that may open no more files, for a while or for good."""

from __future__ import annotations

import resource

import psutil
import pytest

from tests.integration.launcher.crew import Crew, job
from tests.integration.launcher.launching import Launcher, wait_for

TAKEN = 8
"""Numbers that an agent has in use for as long as it lives: below this limit none is free."""


def limit(process: psutil.Process, files: int) -> None:
    process.rlimit(resource.RLIMIT_NOFILE, (files, process.rlimit(resource.RLIMIT_NOFILE)[1]))


@pytest.mark.parametrize("passes", [True, False], ids=["for a while", "for good"])
def test_a_worker_that_can_not_be_started(launcher: Launcher, passes: bool) -> None:
    """
    1. all workers are killed while their agent may open nothing
    2. the next ones can't be started, which is told
    3. the run goes on once they can, or ends with the reason and the mend
    """
    crew = Crew(launcher, job(train={"steps": 60}, elastic={"nodes": 1}))
    agent = crew.agent("a")
    crew.reach(3)
    before = agent.rlimit(resource.RLIMIT_NOFILE)[0]
    limit(agent, TAKEN)
    for worker in agent.children(recursive=True):
        worker.kill()
    wait_for(lambda: bool(crew.events("worker.not_started")), "one can't be started")
    if passes:
        limit(agent, before)
    ended = launcher.end(agent)
    assert "Traceback" not in ended.err
    reason = "Too many open files; raise the limit of open files (ulimit -n)"
    assert reason in crew.events("worker.not_started")[0]["reason"]
    if passes:
        assert ended.code == 0, ended.err
        assert crew.summary()["steps"] == 60
    else:
        assert ended.code == 1, ended.err
        assert reason in ended.err
