"""An agent that may open no more files."""

from __future__ import annotations

import resource

from tests.integration.launcher.crew import Crew, job
from tests.integration.launcher.launching import Launcher

TAKEN = 8
"""Numbers that an agent has in use for as long as it lives: below this limit none is free."""


def test_an_agent_that_can_open_nothing_ends_with_the_reason(launcher: Launcher) -> None:
    """All workers are killed while their agent may open nothing: neither a process nor a port for
    the next generation can be had. Where it is short for a while, the run goes on or another node
    does; see the nights of mixed faults."""
    crew = Crew(launcher, job(train={"steps": 600}, elastic={"nodes": 1}))
    agent = crew.agent("a")
    crew.reach(3)
    agent.rlimit(resource.RLIMIT_NOFILE, (TAKEN, agent.rlimit(resource.RLIMIT_NOFILE)[1]))
    for worker in agent.children(recursive=True):
        worker.kill()
    ended = launcher.end(agent)
    assert ended.code in (1, 2), ended.err
    assert "Traceback" not in ended.err
    assert "Too many open files" in ended.err.splitlines()[-1]
    assert "ulimit -n" in ended.err.splitlines()[-1]
