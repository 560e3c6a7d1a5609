"""When a node stood still: two clocks, its processes, and looks that come late."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from trainer.agent.vital_signs import (
    LATE_SECONDS,
    LOOK_SECONDS,
    Look,
    StoodStill,
    Vitals,
    VitalSigns,
)

DID_NOT_RUN = "the agent and its workers did not run"


@dataclass
class Node:
    """An agent with workers 11 and 12 that each use one processor, as its looks show them."""

    signs: VitalSigns = field(default_factory=VitalSigns)
    wall: float = 1000.0
    monotonic: float = 50.0
    boottime: float = 70.0
    agent: float = 1.0
    cpu: dict[int, float] = field(default_factory=lambda: {11: 0.0, 12: 0.0})
    found: list[StoodStill] = field(default_factory=list)

    def look(
        self, seconds: float = LOOK_SECONDS, *, stopped: tuple[int, ...] = (), **busy: float
    ) -> None:
        """`seconds` after the last; `agent=0.1` is the share of a processor that it used."""
        self.wall += seconds
        self.monotonic += seconds
        self.boottime += seconds
        self.agent += seconds * busy.get("agent", 0.0)
        for pid in self.cpu:
            share = 0.0 if pid in stopped else busy.get("workers", 1.0)
            self.cpu[pid] += seconds * share
        workers = {pid: Vitals(stopped=pid in stopped, cpu=used) for pid, used in self.cpu.items()}
        self.found += self.signs.look(
            Look(
                wall=self.wall,
                monotonic=self.monotonic,
                boottime=self.boottime,
                cpu=self.agent,
                workers=workers,
            )
        )


@pytest.fixture
def node() -> Node:
    made = Node()
    for _ in range(4):
        made.look()
    return made


def test_a_node_that_runs_stands_never(node: Node) -> None:
    for late in (0.0, 0.2, LATE_SECONDS - 0.01):
        node.look(LOOK_SECONDS + late, workers=0.0)
    assert node.found == []
    assert node.signs.overlap(0.0, 1e9) == 0.0


def test_agent_and_workers_that_were_all_stopped(node: Node) -> None:
    began = node.wall
    node.look(12.5, workers=0.0, agent=0.01)
    (found,) = node.found
    assert (found.seconds, found.why) == (12.0, DID_NOT_RUN)
    assert node.signs.overlap(began, node.wall) == pytest.approx(12.0)
    assert node.signs.overlap(began, began + 5.5) == pytest.approx(5.0)
    assert node.signs.overlap(node.wall, node.wall + 100.0) == 0.0


@pytest.mark.parametrize(
    "busy", [{"workers": 1.0}, {"workers": 0.5}, {"workers": 0.0, "agent": 0.9}]
)
def test_an_agent_that_comes_late_alone_says_nothing(node: Node, busy: dict[str, float]) -> None:
    """It was stopped while its workers train, or was busy itself."""
    node.look(12.5, **busy)
    assert node.found == []


@pytest.mark.parametrize("share", [0.03, 0.1, 1.0, 8.0])
def test_who_runs_as_before_does_not_stand_however_little_that_is(share: float) -> None:
    """Workers that wait for a device, that have to share a processor, that use eight of them."""
    node = Node()
    for _ in range(20):
        node.look(workers=share, agent=0.02)
    node.look(12.5, workers=share, agent=0.0)
    assert node.found == []
    # They ran on after the last look, until all were stopped.
    node.look()
    for pid in node.cpu:
        node.cpu[pid] += share * LOOK_SECONDS
    node.look(12.5, workers=0.0, agent=0.0)
    assert [found.seconds for found in node.found] == [12.0]


def test_a_worker_that_is_stopped_alone(node: Node) -> None:
    began = node.wall
    for _ in range(8):
        node.look(stopped=(12,))
    assert node.found == []
    assert node.signs.stands
    node.look()
    (found,) = node.found
    assert (found.seconds, found.why) == (4.0, "pid 12 was stopped")
    assert not node.signs.stands
    assert node.signs.overlap(began, node.wall) == pytest.approx(4.0)


def test_a_debuggers_glance_is_none(node: Node) -> None:
    node.look(stopped=(11, 12))
    node.look()
    assert node.found == []


def test_workers_that_are_stopped_before_their_agent_and_after_it(node: Node) -> None:
    """1. the workers are stopped; 2. so is the agent; 3. it goes on; 4. so do they: it is one time,
    counted once."""
    node.look(stopped=(11, 12))
    node.look(10.0, stopped=(11, 12))
    node.look(stopped=(11, 12))
    node.look()
    (found,) = node.found
    assert (found.seconds, found.why) == (11.0, "pid 11, 12 were stopped")


def test_a_machine_that_was_suspended(node: Node) -> None:
    """The clock by which steps are timed stood still with it, so that no step overlaps."""
    began = node.wall
    node.wall += 600.0
    node.boottime += 600.0
    node.look()
    (found,) = node.found
    assert (found.seconds, found.why) == (600.0, "the machine was suspended")
    assert node.signs.overlap(began, node.wall) == 0.0


def test_workers_that_came_meanwhile_have_run(node: Node) -> None:
    node.cpu[13] = 0.0
    node.look(12.5, workers=0.0)
    assert node.found == []


def test_a_clock_that_is_set_moves_nothing(node: Node) -> None:
    node.wall += 3600.0
    node.look()
    assert node.found == []
