"""An error that every rank has before the first step ends the job on the first try."""

from __future__ import annotations

import pytest

from tests.integration.launcher.crew import Crew
from tests.integration.launcher.launching import Launcher
from trainer.telemetry.files import read_lines

LOOP = """\
import sys, trainer
import torch.distributed as dist
def train(run):
    {body}
trainer.elastic(train)
"""
MANY = 9
"""Restarts that the job could afford; each takes a second, and would show in the events."""


def generations(launcher: Launcher) -> list[int]:
    lines = read_lines(launcher.run_directory() / "events.jsonl")
    return [line["generation"] for line in lines if line["event"] == "generation.begin"]


def elastic(launcher: Launcher, body: str) -> tuple[int, str]:
    """Exit code and stderr of a loop of two ranks with this body."""
    script = launcher.folder / "loop.py"
    script.write_text(LOOP.format(body=body))
    flags = ("--elastic", "--nproc-per-node", 2, "--max-restarts", MANY)
    ended = launcher.remesh(*flags, script)
    return ended.code, ended.err


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("raise ValueError(f'no head {run.rank}')", "ValueError: no head"),
        ("sys.exit(3)", "the program called sys.exit(3) before its training was done"),
        ("sys.exit()", "the program called sys.exit(None) before its training was done"),
    ],
)
def test_what_every_rank_of_a_loop_raises_is_tried_once(
    launcher: Launcher, body: str, cause: str
) -> None:
    code, err = elastic(launcher, body)
    assert code == 1
    told = next(line for line in err.splitlines() if line.startswith("remesh: failed: "))
    assert "every rank failed before the first step: " in told
    assert cause in told
    assert generations(launcher) == [1]


def test_what_one_rank_raises_is_tried_twice(launcher: Launcher) -> None:
    code, err = elastic(launcher, "assert run.rank == 0, 'never on rank 1'; dist.barrier()")
    assert code == 1
    told = next(line for line in err.splitlines() if line.startswith("remesh: failed: "))
    assert "never on rank 1" in told
    assert "the start before failed of the same error, before the first step" in told
    assert generations(launcher) == [1, 2]


def test_an_error_that_may_pass_is_tried_again(launcher: Launcher) -> None:
    body = (
        "from pathlib import Path; mark = Path(f'mark{run.rank}'); old = mark.exists()\n"
        "    mark.touch()\n"
        "    if not old: raise OSError(5, 'Input/output error')"
    )
    code, err = elastic(launcher, body)
    assert code == 0, err
    assert generations(launcher) == [1, 2]


@pytest.mark.slow
def test_two_nodes_whose_ranks_all_fail_alike_end_on_the_first_try(launcher: Launcher) -> None:
    script = launcher.folder / "loop.py"
    script.write_text(LOOP.format(body="raise ValueError(f'no head {run.rank}')"))
    elastic = {"nodes": 2, "nproc_per_node": 2, "max_restarts": MANY}
    crew = Crew(
        launcher, {"entrypoint": {"script": str(script), "elastic": True}, "elastic": elastic}
    )
    agents = [crew.agent(node) for node in "ab"]
    ended = [launcher.end(agent) for agent in agents]
    assert [e.code for e in ended] == [1, 1], [e.err for e in ended]
    assert len(crew.members()) == 1
    assert any("every rank failed before the first step: " in e.err for e in ended)
