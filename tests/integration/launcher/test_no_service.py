"""Runs whose rendezvous service is gone for good end as they would have ended with it."""

from __future__ import annotations

import json
import signal
from typing import Any

import psutil
import pytest

from tests.etcd_server import EtcdServer
from tests.integration.launcher.crew import Crew, committed, job
from tests.integration.launcher.launching import Ended, Launcher, wait_for
from trainer.telemetry.files import read_json

STEPS = 16
ELASTIC = {"nodes": 2, "nproc_per_node": 1, "beat_timeout": 3, "reconnect_grace": 1}
LOOP = """\
import sys, time, trainer
from pathlib import Path
def train(run):
    Path(f"in{run.rank}").touch()
    while not Path("go").exists():
        time.sleep(0.05)
    raise SystemExit(3)
trainer.elastic(train)
"""
SCRIPT = """\
import os, time
from pathlib import Path
Path(f"in{os.environ['RANK']}").touch()
while not Path("go").exists():
    time.sleep(0.05)
raise SystemExit(int(os.environ["RANK"]) * CODE)
"""


def training(launcher: Launcher, store: str = "memory") -> tuple[Crew, dict[str, psutil.Popen]]:
    """A job of two nodes that has done its first steps, and its agents."""
    described = job(elastic=ELASTIC, train={"steps": STEPS, "pieces": 2})
    crew = Crew(launcher, described, store=store)
    agents = {node: crew.agent(node) for node in "ab"}
    crew.reach(4)
    return crew, agents


def program(launcher: Launcher, text: str, *, elastic: bool) -> Crew:
    """A job of two nodes whose ranks touch `in0` and `in1`, and wait for the file `go`."""
    script = launcher.folder / "program.py"
    script.write_text(text)
    entrypoint: dict[str, Any] = {"script": str(script), "elastic": elastic}
    limits = {"max_restarts": 0, "nodes": 2, "nproc_per_node": 1}
    return Crew(launcher, {"entrypoint": entrypoint, "elastic": ELASTIC | limits})


def end(crew: Crew, agents: dict[str, psutil.Popen]) -> dict[str, Ended]:
    return {node: crew.launcher.end(agent) for node, agent in agents.items()}


def lose_service_inside(crew: Crew) -> dict[str, Ended]:
    """Start both nodes, kill the service while both ranks are in the program, let them go on."""
    agents = {node: crew.agent(node) for node in "ab"}
    folder = crew.launcher.folder
    wait_for(lambda: all((folder / f"in{rank}").exists() for rank in (0, 1)), "both are inside")
    crew.service.kill()
    crew.service.wait()
    (folder / "go").touch()
    return end(crew, agents)


def test_a_run_completes_and_says_so_when_it_is_started_again(launcher: Launcher) -> None:
    crew, agents = training(launcher)
    crew.service.kill()
    ended = end(crew, agents)
    for each in ended.values():
        told = "all ranks are done and know it of each other; waiting up to 10 s"
        assert told in each.out + each.err
    assert_completed(crew, ended)
    assert crew.summary()["weights_sha256"]
    assert_nothing_is_left_to_do(crew)
    assert crew.steps() == list(range(1, STEPS + 1))


def assert_completed(crew: Crew, ended: dict[str, Ended]) -> None:
    assert [e.code for e in ended.values()] == [0, 0], [e.err for e in ended.values()]
    assert crew.steps() == list(range(1, STEPS + 1))
    assert crew.summary()["status"] == "completed"
    assert committed(crew.root)[0] == STEPS


def assert_nothing_is_left_to_do(crew: Crew) -> None:
    """As who starts it again is told."""
    again = crew.launcher.end(crew.agent("a"))
    assert again.code == 0, again.err
    assert "is complete" in again.out + again.err


def test_a_run_completes_under_a_service_whose_etcd_says_nothing(
    launcher: Launcher, etcd: EtcdServer
) -> None:
    crew, agents = training(launcher, etcd.url)
    etcd.pause()
    assert_completed(crew, end(crew, agents))
    assert crew.service.is_running()
    assert_nothing_is_left_to_do(crew)


def test_a_service_that_is_heard_again_in_time_learns_how_it_ended(launcher: Launcher) -> None:
    crew, agents = training(launcher)
    crew.service.suspend()
    wait_for(lambda: committed(crew.root)[:1] == [STEPS], "all steps are done and saved")
    crew.service.resume()
    assert_completed(crew, end(crew, agents))
    code, out, err = crew.command("rendezvous", "status", "--endpoint", crew.endpoint, "--json")
    assert code == 0, err
    (seen,) = json.loads(out)["jobs"]
    assert (seen["run_id"], seen["phase"]) == ("crew", "completed")


def test_a_service_that_comes_back_later_starts_nothing_anew(
    launcher: Launcher, etcd: EtcdServer
) -> None:
    crew, agents = training(launcher, etcd.url)
    crew.service.kill()
    crew.service.wait()
    assert_completed(crew, end(crew, agents))
    crew.serve()
    again = {node: crew.agent(node) for node in "ab"}
    ended = end(crew, again)
    assert all("is complete" in e.out + e.err for e in ended.values())
    assert_completed(crew, ended)


def test_a_node_that_is_told_to_go_saves_with_all_others(launcher: Launcher) -> None:
    crew, agents = training(launcher)
    crew.service.kill()
    crew.service.wait()
    for agent in agents.values():
        agent.send_signal(signal.SIGTERM)
    ended = end(crew, agents)
    assert {e.code for e in ended.values()} == {75}, [e.err for e in ended.values()]
    assert committed(crew.root)[0] == crew.steps()[-1] < STEPS


def test_a_failure_that_no_generation_may_follow_ends_it(launcher: Launcher) -> None:
    crew = program(launcher, LOOP, elastic=True)
    ended = lose_service_inside(crew)
    assert {e.code for e in ended.values()} == {1}, [e.err for e in ended.values()]
    assert crew.summary()["status"] == "failed"
    assert any("called sys.exit(3)" in e.err for e in ended.values())


@pytest.mark.parametrize(("code", "codes"), [(0, {0}), (3, {1})])
def test_scripts_end_with_their_own_codes(launcher: Launcher, code: int, codes: set[int]) -> None:
    crew = program(launcher, SCRIPT.replace("CODE", str(code)), elastic=False)
    ended = lose_service_inside(crew)
    assert {e.code for e in ended.values()} == codes, [e.err for e in ended.values()]
    summary = read_json(crew.root / "summary.json")
    assert summary is not None
    assert summary["status"] == ("failed" if code else "completed")
