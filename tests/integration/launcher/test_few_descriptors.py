"""An agent that may open no more files."""

from __future__ import annotations

import resource
import signal

import psutil

from tests.integration.launcher.crew import Crew, job
from tests.integration.launcher.launching import REMESH, Launcher, wait_for

TAKEN = 8
"""Numbers that an agent has in use for as long as it lives: below this limit none is free."""


def let_open_nothing(agent: psutil.Popen) -> None:
    agent.rlimit(resource.RLIMIT_NOFILE, (TAKEN, agent.rlimit(resource.RLIMIT_NOFILE)[1]))


def test_an_agent_that_can_open_nothing_ends_with_the_reason(launcher: Launcher) -> None:
    """All workers are killed while their agent may open nothing: neither a process nor a port for
    the next generation can be had. Where it is short for a while, the run goes on or another node
    does; see the nights of mixed faults."""
    crew = Crew(launcher, job(train={"steps": 600}, elastic={"nodes": 1}))
    agent = crew.agent("a")
    crew.reach(3)
    let_open_nothing(agent)
    for worker in agent.children(recursive=True):
        worker.kill()
    ended = launcher.end(agent)
    assert ended.code == 1, ended.err
    assert "Traceback" not in ended.err
    assert "Too many open files" in ended.err.splitlines()[-1]
    assert "ulimit -n" in ended.err.splitlines()[-1]


SCRIPT = """\
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: (Path("saved").touch(), sys.exit(0)))
Path("up").touch()
time.sleep(600)
"""


def test_a_script_hears_a_signal_though_its_agent_can_open_nothing(launcher: Launcher) -> None:
    """Who of its processes has a handler can't be looked up then."""
    (launcher.folder / "script.py").write_text(SCRIPT)
    agent = launcher.start([*REMESH, "run", "script.py"])
    wait_for(lambda: (launcher.folder / "up").exists(), "the script runs")
    let_open_nothing(agent)
    agent.send_signal(signal.SIGTERM)
    ended = launcher.end(agent)
    assert "Traceback" not in ended.err
    assert ended.code == 75, ended.err
    assert (launcher.folder / "saved").exists()
