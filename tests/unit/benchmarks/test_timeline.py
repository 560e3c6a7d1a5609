"""What the recovery benchmark reads from steps and events."""

from __future__ import annotations

import pytest

from benchmarks.elastic.report import goals, summarize
from benchmarks.elastic.timeline import STAGES, Recovery, Stamp, longest_pause, recovery, stages


def steps(*said: tuple[float, int, str]) -> list[Stamp]:
    return [Stamp(time, step, 4, epoch) for time, step, epoch in said]


BEFORE = [(1.0, 8, "1"), (1.1, 9, "1"), (1.2, 10, "1")]


def test_a_step_done_again_is_no_new_one() -> None:
    stamps = steps(*BEFORE, (3.0, 9, "2"), (3.1, 10, "2"), (3.2, 11, "2"))
    found = recovery(stamps, 1.25)
    assert found is not None
    assert found == Recovery(counted=pytest.approx(1.95), first=pytest.approx(1.75), repeated=2)


def test_a_step_that_the_old_epoch_still_finished_is_its_own() -> None:
    stamps = steps(*BEFORE, (1.3, 11, "1"), (3.0, 12, "2"))
    found = recovery(stamps, 1.25)
    assert found is not None
    assert (found.counted, found.repeated) == (pytest.approx(1.75), 0)


def test_nothing_is_recovered_while_only_old_steps_are_done() -> None:
    assert recovery(steps(*BEFORE, (3.0, 9, "2"), (3.1, 10, "2")), 1.25) is None


def test_the_pause_is_between_steps_and_not_between_ranks() -> None:
    said = [*BEFORE, (1.21, 10, "1"), (2.0, 11, "2"), (2.1, 12, "2"), (9.0, 13, "2")]
    assert longest_pause(steps(*said), 1.25, 2.05) == pytest.approx(0.8)


def event(time: float, name: str, rank: int | None = None, **more: object) -> dict[str, object]:
    return {"time": time, "event": name, "generation": 2, "rank": rank, **more}


def test_the_stages_add_up_to_the_whole() -> None:
    stamps = steps(*BEFORE, (3.0, 10, "2"), (3.5, 11, "2"))
    parts = {"groups": 0.1, "build": 0.2, "state": 0.1}
    told = stages(
        [
            event(1.35, "worker.exit", 1, expected=False),
            event(1.40, "generation.begin"),
            event(1.50, "worker.begin", 1),
            event(2.00, "worker.begin", 0),
            event(2.80, "state.restored", 0, seconds=parts),
            event(2.70, "state.restored", 1, seconds={**parts, "groups": 0.9}),
            event(3.00, "generation.stepped"),
        ],
        stamps,
        1.25,
    )
    assert told is not None
    assert set(told) == set(STAGES)
    assert told["detect"] == pytest.approx(0.1)
    assert told["leave"] == pytest.approx(0.6)
    assert told["build"] == pytest.approx(0.4), "the parts fill the time until all have the state"
    assert told["repeat"] == pytest.approx(0.5)
    assert sum(told.values()) == pytest.approx(3.5 - 1.25)


def record(system: str, counted: float, **more: object) -> dict[str, object]:
    return {
        "system": system,
        "event": "worker",
        "compiled": False,
        "outcome": "recovered",
        "counted": counted,
        "first": counted,
        "repeated": 0,
        "pause": counted,
        "stages": None,
        **more,
    }


def test_goals_compare_medians_and_leave_out_what_was_not_measured() -> None:
    records = [record("remesh", seconds) for seconds in (1.0, 2.0, 9.0)]
    records += [record("torchrun-tuned", seconds) for seconds in (10.0, 20.0, 30.0)]
    records += [record("torchrun-tuned", 1.0, outcome="not in 150 s")]
    found = summarize(records)
    assert found["events"]["worker"]["torchrun-tuned"]["recovered"] == 3
    assert found["events"]["worker"]["torchrun-tuned"]["runs"] == 4
    assert found["goals"] == {
        "worker: times faster than tuned torchrun": {"reached": 10.0, "goal": 10, "met": True}
    }
    assert goals({}) == {}
