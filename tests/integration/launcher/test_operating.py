"""What an operator asks of a run that goes on: fewer nodes, more nodes, none."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integration.launcher.crew import Crew, committed, job
from tests.integration.launcher.launching import REMESH, Launcher, wait_for


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    launcher = Launcher(tmp_path_factory.mktemp("undisturbed"))
    crew = Crew(launcher, job(elastic={"nodes": "1"}, train={"steps": 60}))
    ended = launcher.remesh("job.yaml")
    assert ended.code == 0, ended.err
    crew.root = launcher.run_directory()
    yield crew.summary()["weights_sha256"]
    launcher.close()


@pytest.mark.slow
def test_a_run_is_made_smaller_and_larger_and_repeats_no_step(
    launcher: Launcher, undisturbed: str
) -> None:
    """
    1. three nodes of one rank each run
    2. `remesh scale crew --nodes 1`: two hand their state over and wait as spares
    3. `remesh scale crew --nodes 2`: one of them enters again
    4. `remesh drain crew --node c`: a spare leaves, and nobody notices
    """
    elastic = {"nodes": "1:3", "nproc_per_node": 1, "mirror_every": 0}
    crew = Crew(launcher, job(elastic=elastic, train={"steps": 60}))
    agents = {node: crew.agent(node) for node in "abc"}
    crew.reach(4)
    assert sorted(crew.members()[0]) == ["a", "b", "c"]
    code, _, err = crew.command("scale", "crew", "--nodes", "4")
    assert code == 1
    assert "out of the job's bounds (1 to 3)" in err
    code, out, err = crew.command("scale", "crew", "--nodes", "1")
    assert (code, err) == (0, "")
    assert "was asked to have 1 node; it has 3 now" in out
    wait_for(lambda: len(crew.members()) > 1, "the run is smaller")
    (first,) = crew.members()[1]
    code, _, err = crew.command("scale", str(crew.root), "--nodes", "2")
    assert (code, err) == (0, "")
    wait_for(lambda: len(crew.members()) > 2, "the run is larger again")
    (spare,) = {"a", "b", "c"} - set(crew.members()[2])
    assert first in crew.members()[2]
    code, out, err = crew.command("drain", "crew", "--node", spare)
    assert (code, err) == (0, "")
    assert launcher.end(agents.pop(spare)).code == 75
    ended = [launcher.end(agent) for agent in agents.values()]
    assert [e.code for e in ended] == [0, 0], [e.err for e in ended]
    assert len(crew.members()) == 3
    assert crew.steps() == list(range(1, 61))
    summary = crew.summary()
    assert (summary["weights_sha256"], summary["lost_steps"]) == (undisturbed, 0)
    assert {e["source"] for e in crew.events("state.restored")} == {"init", "peers", "mirror"}


@pytest.mark.slow
def test_a_whole_run_is_drained_and_goes_on_later(launcher: Launcher, undisturbed: str) -> None:
    crew = Crew(launcher, job(elastic={"nodes": "1:2"}, train={"steps": 60}))
    agents = [crew.agent(node) for node in "ab"]
    crew.reach(4)
    code, out, _ = crew.command("drain", "crew")
    assert (code, out) == (0, "run crew was told to leave\n")
    ended = [launcher.end(agent) for agent in agents]
    assert [e.code for e in ended] == [75, 75], [e.err for e in ended]
    assert committed(crew.root)[0] == max(crew.steps())
    assert crew.summary()["status"] == "stopped"
    code, _, err = crew.command("drain", "crew")
    assert code == 2
    assert "run crew is over (stopped)" in err
    ended = [launcher.end(agent) for agent in [crew.agent(node) for node in "ab"]]
    assert [e.code for e in ended] == [0, 0], [e.err for e in ended]
    summary = crew.summary()
    assert (summary["weights_sha256"], summary["lost_steps"]) == (undisturbed, 0)


def test_the_only_node_of_a_run_without_a_service_is_drained_too(launcher: Launcher) -> None:
    crew = Crew(launcher, job(elastic={"nodes": "1"}, run={"id": "alone"}, train={"steps": 60}))
    process = launcher.start([*REMESH, "run", "job.yaml"])
    crew.root = launcher.folder / "runs" / "alone"
    crew.reach(4)
    code, _, err = crew.command("scale", "alone", "--nodes", "2")
    assert code == 2
    assert "run alone has one node" in err
    code, out, _ = crew.command("drain", "alone")
    assert code == 0
    assert "was told to save and leave" in out
    assert launcher.end(process).code == 75
    assert committed(crew.root)[0] == max(crew.steps())
    assert json.loads((crew.root / "status.json").read_text())["rendezvous"] == {
        "endpoints": [],
        "files": {},
    }
