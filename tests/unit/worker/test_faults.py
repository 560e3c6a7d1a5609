"""Whom a fault befalls, and how often."""

from __future__ import annotations

import os
import signal
import time
from typing import get_args

import pytest

from trainer.job import Fault
from trainer.job.faults import Kind
from trainer.worker.faults import FOREVER, Faults, Here, strikes


def here(**changes) -> Here:
    place = {
        "rank": 1, "world_size": 4, "node": "a", "generation": 2, "step": 30,
        "point": "before-backward",
    }  # fmt: skip
    return Here(**{**place, **changes})


@pytest.mark.parametrize(
    "elsewhere",
    [{"rank": 0}, {"step": 29}, {"point": "before-norm"}, {"generation": 1}, {"node": "b"}],
)
def test_it_strikes_where_it_was_told_and_nowhere_else(elsewhere):
    fault = Fault(kind="kill", step=30, rank=1, node="a", generation=2)
    assert strikes(fault, here(), seed=0)
    assert not strikes(fault, here(**elsewhere), seed=0)


def test_without_a_rank_one_is_drawn():
    fault = Fault(kind="kill", step=30)
    assert sum(strikes(fault, here(rank=rank), seed=5) for rank in range(4)) == 1


def test_a_rate_strikes_about_as_often_as_it_says_and_the_same_each_time():
    fault = Fault(kind="slow", rate=0.1)
    places = [here(step=step, rank=rank) for step in range(500) for rank in range(4)]
    struck = [strikes(fault, place, seed=7) for place in places]
    assert 0.07 < sum(struck) / len(struck) < 0.13
    assert struck == [strikes(fault, place, seed=7) for place in places]
    assert struck != [strikes(fault, place, seed=8) for place in places]


def test_a_step_that_is_run_again_is_not_struck_again(tmp_path):
    struck: list[str] = []

    def faults() -> Faults:
        return Faults(
            [Fault(kind="nan", step=30, rank=1, times=2)],
            seed=0,
            marks=tmp_path / "faults",
            poison=lambda: struck.append("nan"),
            disconnect=lambda: None,
        )

    for _ in range(4):
        faults().at(here(point="before-norm"))
    assert struck == ["nan", "nan"]


def test_raise_raises(tmp_path):
    faults = Faults(
        [Fault(kind="raise", step=30, rank=1)],
        seed=0,
        marks=tmp_path,
        poison=lambda: None,
        disconnect=lambda: None,
    )
    with pytest.raises(RuntimeError, match="asked for"):
        faults.at(here())


DONE = {
    "kill": [("kill", "self", signal.SIGKILL)],
    "stop": [("continue", 0.5), ("kill", "self", signal.SIGSTOP)],
    "hang": [("sleep", FOREVER)],
    "slow": [("sleep", 0.5)],
    "exit": [("exit", 3)],
    "nan": [("poison",)],
    "disconnect": [("disconnect",)],
    "drain": [("kill", "agent", signal.SIGTERM)],
    "agent-kill": [("kill", "agent", signal.SIGKILL)],
}


def test_every_kind_is_listed():
    assert DONE.keys() | {"raise"} == set(get_args(Kind))


@pytest.mark.parametrize("kind", list(DONE))
def test_each_kind_does_what_it_says(kind, tmp_path, monkeypatch):
    done: list[tuple] = []
    who = {os.getpid(): "self", os.getppid(): "agent"}
    monkeypatch.setattr(os, "kill", lambda pid, number: done.append(("kill", who[pid], number)))
    monkeypatch.setattr(os, "_exit", lambda code: done.append(("exit", code)))
    monkeypatch.setattr(time, "sleep", lambda seconds: done.append(("sleep", seconds)))
    monkeypatch.setattr(
        Faults, "_continue_later", staticmethod(lambda seconds: done.append(("continue", seconds)))
    )
    faults = Faults(
        [Fault(kind=kind, step=30, rank=1, seconds=0.5, code=3)],
        seed=0,
        marks=tmp_path,
        poison=lambda: done.append(("poison",)),
        disconnect=lambda: done.append(("disconnect",)),
    )
    for point in ("before-backward", "before-norm"):
        faults.at(here(point=point))
    assert done == DONE[kind]
