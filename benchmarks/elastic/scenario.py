"""One run of one system, and what was measured of each event in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.elastic.crew import until
from benchmarks.elastic.job import CHECKPOINT_EVERY, RANKS
from benchmarks.elastic.system import Event, System
from benchmarks.elastic.timeline import epochs, longest_pause, recovery

BEGIN_SECONDS = 240.0
PATIENCE = 150.0
WARM_STEPS = 25
STEPS_AFTER = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one event cost. `outcome` is `recovered`, or says what became of it instead."""

    event: Event
    outcome: str
    counted: float | None = None
    first: float | None = None
    repeated: int | None = None
    pause: float | None = None
    stages: dict[str, float] | None = None

    def record(self) -> dict[str, Any]:
        return asdict(self)


def worker_death(system: System) -> Iterator[Measured]:
    """One worker of a settled run is killed, in the middle between two checkpoints."""
    if not _begun(system):
        yield Measured(event="worker", outcome="did not begin")
        return
    yield _after(system, "worker", system.kill_worker())


def node_story(system: System) -> Iterator[Measured]:
    """A node is lost, comes back, and leaves with notice, as far as the system goes along."""
    if not _begun(system):
        yield Measured(event="loss", outcome="did not begin")
        return
    loss = _after(system, "loss", system.kill_node())
    yield loss
    if loss.outcome != "recovered" or "return" not in system.events:
        return
    _steps_more(system, STEPS_AFTER)
    at = time.monotonic()
    system.return_node()
    comeback = _after(system, "return", at, world=RANKS)
    yield comeback
    if comeback.outcome != "recovered" or "drain" not in system.events:
        return
    if not _settled(system, RANKS):
        yield Measured(event="drain", outcome="the run did not settle after the return")
        return
    yield _after(system, "drain", system.drain_node())


def _begun(system: System) -> bool:
    """Start it; whether it trains, with all ranks and all its processes, and has settled."""
    system.start()
    until(lambda: bool(system.stamps()) or system.crew.someone_ended(), BEGIN_SECONDS)
    return not system.crew.someone_ended() and _settled(system, RANKS)


def _settled(system: System, world: int) -> bool:
    """Wait for steps of the whole world, for what is kept in reserve, and then for the moment
    in the middle between two checkpoints."""

    def newest() -> int:
        return max((s.step for s in system.stamps() if s.world == world), default=0)

    base = newest()
    if not until(lambda: newest() >= base + WARM_STEPS and system.spare_ready(), BEGIN_SECONDS):
        return False
    middle = newest() // CHECKPOINT_EVERY * CHECKPOINT_EVERY + CHECKPOINT_EVERY * 3 // 2
    return until(lambda: newest() >= middle, BEGIN_SECONDS)


def _after(system: System, event: Event, at: float, world: int | None = None) -> Measured:
    """Watch until new steps are done (by `world` ranks), and a few more."""
    old = epochs(system.stamps(), at)

    def over() -> bool:
        stamps = system.stamps()
        reached = world is None or any(
            stamp.world == world and stamp.epoch not in old for stamp in stamps
        )
        return reached and recovery(stamps, at) is not None

    if not until(over, PATIENCE):
        return Measured(event=event, outcome=f"not in {PATIENCE:.0f} s")
    end = time.monotonic()
    _steps_more(system, STEPS_AFTER)
    found = recovery(system.stamps(), at)
    assert found is not None
    return Measured(
        event=event,
        outcome="recovered",
        counted=found.counted,
        first=found.first,
        repeated=found.repeated,
        pause=longest_pause(system.stamps(), at, end),
        stages=system.stages(at),
    )


def _steps_more(system: System, count: int) -> None:
    newest = max(stamp.step for stamp in system.stamps())
    until(lambda: max(s.step for s in system.stamps()) >= newest + count, PATIENCE)
