"""Below the minimum of nodes: the job waits, its state in memory; then it goes on, or saves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.launcher.crew import Crew, committed, job
from tests.integration.launcher.launching import Launcher, wait_for
from trainer.telemetry.files import read_json

MIRROR_EVERY = 4
TWO = {"nodes": "2:2", "mirror_every": MIRROR_EVERY}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    launcher = Launcher(tmp_path_factory.mktemp("undisturbed"))
    crew = Crew(launcher, job(elastic={"nodes": "1", "nproc_per_node": 2}))
    ended = launcher.remesh("job.yaml")
    assert ended.code == 0, ended.err
    crew.root = launcher.run_directory()
    yield crew.summary()["weights_sha256"]
    launcher.close()


def mirrored(keeper: psutil.Popen, node: str) -> int:
    """The newest version of which `keeper` has the mirrors of both ranks of `node`; 0 for none."""
    found = []
    for rank in range(2):
        (folder,) = Path("/dev/shm").glob(f"remesh-stage-{keeper.pid}-*")
        there = [(read_json(path) or {}) for path in folder.glob(f"from-{node}-own-{rank}/*.json")]
        found.append(max((description.get("version", 0) for description in there), default=0))
    return min(found)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["first", "last"])
def test_who_waits_in_vain_saves_and_leaves_and_a_later_start_resumes(
    launcher: Launcher, undisturbed: str, lost: str
) -> None:
    """
    1. two nodes are needed, and one is killed
    2. the other waits, then saves what lies in its memory: its own state and the mirror
    3. both are started again; what is done twice is what came after the last mirror
    """
    crew = Crew(launcher, job(elastic={**TWO, "wait": 2}))
    agents = {node: crew.agent(node) for node in ("a", "b")}
    crew.reach(10)
    nodes = crew.members()[0]
    victim, other = nodes if lost == "first" else reversed(nodes)
    # What is still on its way is lost with its sender; what has arrived is not.
    arrived = 2 * MIRROR_EVERY
    wait_for(lambda: mirrored(agents[other], victim) >= arrived, "its mirror has arrived")
    agents[victim].kill()
    ended = launcher.end(agents[other])
    assert ended.code == 75, ended.err
    assert "at least 2 needed; to go on: " in ended.err
    assert (crew.summary()["status"], crew.summary()["steps"]) == ("stopped", max(crew.steps()))
    done = max(crew.steps())
    (saved,) = committed(crew.root)
    assert arrived <= saved <= done
    again = [crew.agent(node) for node in ("a", "b")]
    codes = [launcher.end(agent) for agent in again]
    assert [e.code for e in codes] == [0, 0], [e.err for e in codes]
    assert crew.steps() == list(range(1, 25))
    assert crew.summary()["weights_sha256"] == undisturbed
    # A step that was not counted yet may be one of them.
    assert crew.summary()["lost_steps"] <= done + 1 - saved
    sources = {e["source"] for e in crew.events("state.restored") if e["generation"] > 1}
    assert sources == {"storage"}


@pytest.mark.slow
def test_a_node_that_comes_back_in_time_goes_on_from_memory(
    launcher: Launcher, undisturbed: str
) -> None:
    crew = Crew(launcher, job(elastic={**TWO, "wait": 300}, checkpoint={"at_end": False}))
    a, b = crew.agent("a"), crew.agent("b")
    crew.reach(10)
    b.kill()
    part = crew.root / "agents" / "a.json"
    wait_for(lambda: (read_json(part) or {}).get("state") == "waiting", "a waits")
    assert committed(crew.root) == []
    ended = [launcher.end(agent) for agent in (crew.agent("b"), a)]
    assert [e.code for e in ended] == [0, 0], [e.err for e in ended]
    assert crew.steps() == list(range(1, 25))
    assert crew.summary()["weights_sha256"] == undisturbed
    assert crew.summary()["lost_steps"] <= MIRROR_EVERY + 1
    sources = {e["source"] for e in crew.events("state.restored") if e["generation"] > 1}
    assert sources == {"mirror"}


def test_notice_to_all_nodes_at_once_saves_and_repeats_no_step(
    launcher: Launcher, undisturbed: str
) -> None:
    """A whole allocation is taken away: nobody is left to hand over to."""
    crew = Crew(launcher, job(elastic=TWO))
    agents = [crew.agent(node) for node in ("a", "b")]
    crew.reach(10)
    for agent in agents:
        agent.send_signal(signal.SIGTERM)
    ended = [launcher.end(agent) for agent in agents]
    assert [e.code for e in ended] == [75, 75], [e.err for e in ended]
    assert committed(crew.root)[0] == max(crew.steps()) < 24
    ended = [launcher.end(agent) for agent in [crew.agent(node) for node in ("a", "b")]]
    assert [e.code for e in ended] == [0, 0], [e.err for e in ended]
    assert crew.steps() == list(range(1, 25))
    assert crew.summary()["weights_sha256"] == undisturbed
    assert crew.summary()["lost_steps"] == 0


@pytest.mark.slow
def test_notice_while_waiting_saves(launcher: Launcher) -> None:
    crew = Crew(launcher, job(elastic={**TWO, "wait": 300}))
    a, b = crew.agent("a"), crew.agent("b")
    crew.reach(10)
    b.kill()
    part = crew.root / "agents" / "a.json"
    wait_for(lambda: (read_json(part) or {}).get("state") == "waiting", "a waits")
    a.send_signal(signal.SIGTERM)
    ended = launcher.end(a)
    assert ended.code == 75, ended.err
    assert max(crew.steps()) - MIRROR_EVERY - 1 <= committed(crew.root)[0]
