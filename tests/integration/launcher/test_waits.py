"""Every wait that a user can set ends by the time that was given for it, and a line says what was
waited for. Real agents, a real service, and programs that do nothing by themselves.

`tests/unit/job/test_times.py` holds that no time is left out.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.launcher.crew import Crew
from tests.integration.launcher.launching import REMESH, Ended, Launcher, wait_for
from trainer.telemetry.files import read_json

DEAF = """\
import os, signal, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path("up-" + os.environ["RANK"]).touch()
time.sleep(600)
"""
IDLE = "import time; time.sleep(600)\n"
LONG = 300
"""Seconds: a time that must not be what ends a test."""


def crew_of(launcher: Launcher, program: str, **elastic: Any) -> Crew:
    """Nodes of one rank each that run this program; `elastic` are keys of that section."""
    script = launcher.folder / "program.py"
    script.write_text(program)
    section = {"nproc_per_node": 1, "reconnect_grace": 1, "beat_timeout": 10, **elastic}
    return Crew(launcher, {"entrypoint": {"script": str(script)}, "elastic": section})


def timed(end: Callable[[], Ended]) -> tuple[Ended, float]:
    began = time.monotonic()
    ended = end()
    return ended, time.monotonic() - began


def nodes(crew: Crew) -> list[str]:
    """Of the newest generation; none before the first."""
    return sorted(crew.members()[-1]) if crew.members() else []


def reasons(crew: Crew) -> list[str]:
    return [event["reason"] for event in crew.events("generation.begin")]


def test_who_comes_goes_and_falls_silent(launcher: Launcher) -> None:
    """1. a begins alone when `last_call` is over; 2. b enters when `grow_interval` is; 3. b is
    stopped, and lost after `beat_timeout`; 4. it comes back, and is killed: `reconnect_grace`."""
    elastic = {"last_call": 1, "grow_interval": 4, "beat_timeout": 2, "reconnect_grace": 0.7}
    crew = crew_of(launcher, IDLE, nodes="1:2", **elastic)
    a = crew.agent("a")
    wait_for(lambda: nodes(crew) == ["a"], "a begins alone")
    assert "1 node" in reasons(crew)[0]
    b = crew.agent("b")
    wait_for(lambda: nodes(crew) == ["a", "b"], "b is let in")
    first, second = (event["time"] for event in crew.events("generation.begin"))
    assert second - first >= elastic["grow_interval"] - 0.5
    b.suspend()
    wait_for(lambda: nodes(crew) == ["a"], "b is lost")
    assert reasons(crew)[-1].startswith("node b was lost: no beat for 2.")
    b.resume()
    wait_for(lambda: nodes(crew) == ["a", "b"], "b is back")
    b.kill()
    wait_for(lambda: nodes(crew) == ["a"], "b is lost again")
    assert reasons(crew)[-1] == "node b was lost: connection broken, and not back within 0.7 s"
    a.send_signal(signal.SIGTERM)
    ended = launcher.end(a)
    assert ended.code == 75
    for line in ("node b was lost: no beat for 2.", "node b was lost: connection broken"):
        assert line in ended.err
    told = launcher.end(b).err
    assert "node b enters with the next generation, in" in told


def left_in_vain(launcher: Launcher, agent: psutil.Popen) -> None:
    ended, took = timed(lambda: launcher.end(agent))
    assert ended.code == 75
    assert took >= 1
    assert "1 node after 2 s, at least 2 needed" in ended.err.splitlines()[-1]


def test_too_few_for_the_first_generation(launcher: Launcher) -> None:
    crew = crew_of(launcher, IDLE, nodes=2, last_call=1, join_timeout=2, wait=LONG)
    left_in_vain(launcher, crew.agent("a"))


def test_too_few_for_the_next_generation(launcher: Launcher) -> None:
    crew = crew_of(launcher, IDLE, nodes=2, last_call=1, join_timeout=LONG, wait=2)
    a, b = crew.agent("a"), crew.agent("b")
    wait_for(lambda: nodes(crew) == ["a", "b"], "both are in")
    b.kill()
    left_in_vain(launcher, a)


def up(launcher: Launcher, ranks: int = 1) -> bool:
    """Whether the program runs on so many ranks, and is deaf."""
    return len(list(launcher.folder.glob("up-*"))) >= ranks


def both_up(launcher: Launcher, crew: Crew) -> None:
    """And the run's status, by which a command finds them, names them."""
    wait_for(lambda: up(launcher, 2), "the program runs on both nodes")
    part = crew.root / "status.json"
    wait_for(lambda: (read_json(part) or {}).get("world_size") == 2, "the status says so")


def leave(launcher: Launcher, agent: psutil.Popen) -> tuple[Ended, float]:
    wait_for(lambda: up(launcher), "the program runs")

    def go() -> Ended:
        agent.send_signal(signal.SIGTERM)
        return launcher.end(agent)

    return timed(go)


def test_a_script_that_does_not_leave(launcher: Launcher) -> None:
    (launcher.folder / "deaf.py").write_text(DEAF)
    flags = ("--shutdown-timeout", "2", "deaf.py")
    ended, took = leave(launcher, launcher.start([*REMESH, "run", *flags]))
    assert ended.code == 75
    assert took >= 2
    told = "local rank 0: not left generation 1, 2 s after being told to (--shutdown-timeout); kill"
    assert told in ended.err


def test_a_node_that_does_not_hand_over(launcher: Launcher) -> None:
    """`elastic.drain_grace`; and `--grace` of who asks for it in its place."""
    crew = crew_of(launcher, DEAF, nodes="1:2", last_call=LONG, drain_grace=2)
    a, b = crew.agent("a"), crew.agent("b")
    wait_for(lambda: nodes(crew) == ["a", "b"], "both are in")
    both_up(launcher, crew)
    code, _, err = crew.command("drain", "crew", "--node", "b", "--grace", "1")
    assert code == 0, err
    ended = launcher.end(b)
    assert ended.code == 75
    over = "the notice ran out before the state was handed over"
    assert f"{over}, 1 s after it came" in ended.err
    ended, took = leave(launcher, a)
    assert ended.code == 75
    assert took >= 2
    assert f"{over}, 2 s after it came" in ended.err


def test_a_boundary_that_is_not_reached(launcher: Launcher) -> None:
    """`boundary_timeout`: the next generation does not wait for who does not leave the last."""
    crew = crew_of(launcher, DEAF, nodes="1:2", last_call=LONG)
    flags = ("--rdzv-conf", "boundary_timeout=2")
    for name in "ab":
        crew.agent(name, *flags)
    wait_for(lambda: nodes(crew) == ["a", "b"], "both are in")
    both_up(launcher, crew)
    asked = time.time()
    code, _, err = crew.command("scale", "crew", "--nodes", "1")
    assert code == 0, err
    wait_for(lambda: len(nodes(crew)) == 1, "one goes on alone")
    assert crew.events("generation.begin")[-1]["time"] - asked >= 2
    assert "the job shrinks from 2 to 1 node" in reasons(crew)[-1]


def test_a_probe_that_says_so_at_its_second_look(launcher: Launcher) -> None:
    (launcher.folder / "idle.py").write_text("open('up-0', 'w').close()\n" + IDLE)
    (launcher.folder / "job.yaml").write_text(
        "entrypoint: {script: idle.py}\n"
        "elastic: {nproc_per_node: 1, probe: {file: going, every: 1}}\n"
    )
    agent = launcher.start([*REMESH, "run", "job.yaml"])
    wait_for(lambda: up(launcher), "the program runs")
    (launcher.folder / "going").touch()
    ended = launcher.end(agent)
    assert ended.code == 75
    assert "going has appeared" in ended.err


LOOP = """\
import sys, time, trainer
import torch.distributed as dist
import torch
where = int(sys.argv[1])
def train(run):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.state(model, optimizer)
    for step in run.steps(6):
        if step == where and run.rank == 1 and run.generation == 1:
            time.sleep(600)
        dist.all_reduce(torch.ones(1))
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
trainer.elastic(train)
"""


def loop(launcher: Launcher, step: int, *settings: str) -> tuple[Ended, Path]:
    """Of two ranks, one sleeps in this step of the first generation, the other waits for it."""
    (launcher.folder / "loop.py").write_text(LOOP)
    keys = ("elastic.mirror_every=0", "checkpoint.every=0", "checkpoint.at_end=false", *settings)
    sets = [word for key in keys for word in ("--set", key)]
    flags = ("--elastic", "--nproc-per-node", 2, "--max-restarts", 1, *sets)
    ended = launcher.remesh(*flags, "loop.py", step)
    assert ended.code == 0, ended.err
    return ended, launcher.run_directory()


def test_a_rank_that_hangs_and_does_not_come_out(launcher: Launcher) -> None:
    """No step for `hang_timeout`; then `interrupt_timeout` for the one that sleeps."""
    ended, root = loop(launcher, 3, "elastic.hang_timeout=4", "elastic.interrupt_timeout=1")
    assert re.search(r"no step for \d+ s", ended.err)
    told = "not left generation 1, 1 s after being told to (elastic.interrupt_timeout); killed"
    assert told in ended.err
    assert "worker.stuck" in (root / "events.jsonl").read_text()


@pytest.mark.slow
def test_a_collective_that_nobody_joins(launcher: Launcher) -> None:
    """In the first step, which may compile for long, `hang_timeout` is not looked at."""
    times = ("elastic.hang_timeout=8", "elastic.collective_timeout=8")
    ended, _ = loop(launcher, 1, *times, "elastic.interrupt_timeout=1")
    assert re.search(r"[Tt]imed out waiting 8000 ?ms", ended.err)
