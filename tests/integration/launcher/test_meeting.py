"""Where the nodes of a run meet, as torchrun's users write it, and what is said where not."""

from __future__ import annotations

import socket

import pytest

from tests.integration.launcher.crew import Crew, job
from tests.integration.launcher.launching import REMESH, Launcher

NAMES = ("RANK", "WORLD_SIZE", "TORCHELASTIC_MAX_RESTARTS")
SHOW = f"import os; print(*(os.environ[name] for name in {NAMES}))"


def test_torchruns_line_for_one_node_runs_as_it_is(launcher: Launcher) -> None:
    """The documented one, with flags that win over the environment though they are 0."""
    (launcher.folder / "show.py").write_text(SHOW)
    line = ("--nnodes", 1, "--nproc-per-node", 2, "--rdzv-backend", "c10d", "--max-restarts", 0)
    arguments = (*line, "--rdzv-endpoint", "localhost:0", "show.py")
    for run in (launcher.torchrun, launcher.remesh):
        ended = run(*arguments, PET_MAX_RESTARTS="3")
        assert ended.code == 0, ended.err
        assert sorted(ended.out.splitlines()) == ["0 2 0", "1 2 0"]


def test_two_agents_of_one_name_are_told_so(launcher: Launcher) -> None:
    """1. An agent waits for a second node. 2. One of the same name comes: it is told to rename."""
    crew = Crew(launcher, job())
    (launcher.folder / "show.py").write_text(SHOW)
    flags = ("--nnodes", "2", "--node", "same", "--rdzv-id", "x", "--rdzv-conf", "join_timeout=20")
    command = [*REMESH, "run", *flags, "--rdzv-endpoint", crew.endpoint, "show.py"]
    first = launcher.start(command)
    assert first.stderr is not None
    # It ends after its join_timeout at the latest, and with it what is read.
    assert any("waiting for nodes: 1 here" in line for line in first.stderr)
    second = launcher.start(command)
    assert second.stderr is not None
    told = (line for line in second.stderr if "name of its own" in line)
    assert "the rendezvous service refuses this node: node same attends already" in next(told, "")


def ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not ipv6(), reason="this machine has no IPv6")
def test_nodes_that_know_each_other_by_ipv6_alone(launcher: Launcher) -> None:
    """Service, stores and mirrors."""
    elastic = {"nodes": "2", "nproc_per_node": 1, "mirror_every": 2}
    crew = Crew(launcher, job(elastic=elastic, train={"steps": 6}), host="::1")
    agents = [crew.agent(node) for node in "ab"]
    ended = [launcher.end(agent) for agent in agents]
    assert [e.code for e in ended] == [0, 0], [e.err for e in ended]
    assert crew.steps() == list(range(1, 7))
    assert crew.events("mirror.failed") == []


def test_a_service_that_never_comes_is_given_up(launcher: Launcher) -> None:
    """After `join_timeout`, with what was waited for and the command that starts it again."""
    (launcher.folder / "show.py").write_text(SHOW)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    flags = ("--nnodes", 2, "--rdzv-id", "x", "--rdzv-conf", "join_timeout=3")
    ended = launcher.remesh(*flags, "--rdzv-endpoint", f"127.0.0.1:{port}", "show.py")
    assert ended.code == 75
    assert f"no rendezvous service answers at 127.0.0.1:{port} yet" in ended.err
    assert f"no rendezvous service at 127.0.0.1:{port} took this node in for 3 s" in ended.err
