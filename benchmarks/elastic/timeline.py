"""From the steps that a run counted to what an event cost. Pure.

Times are seconds of the machine's monotonic clock. An *epoch* is one incarnation of a run: a
generation, a set of restarted processes, a quorum. What an event did is over when a step of a new
epoch is done that no earlier epoch had done.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

STAGES = ("detect", "agree", "leave", "groups", "build", "state", "first step", "repeat")


@dataclass(frozen=True, slots=True)
class Stamp:
    """One step, done at `time` by `world` ranks."""

    time: float
    step: int
    world: int
    epoch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """`counted`: seconds until the next new step; `first`: until any step; `repeated`: steps done
    again in between."""

    counted: float
    first: float
    repeated: int


def epochs(stamps: Sequence[Stamp], at: float) -> set[str]:
    """The epochs that had done a step by then."""
    return {stamp.epoch for stamp in stamps if stamp.time <= at}


def recovery(stamps: Sequence[Stamp], at: float) -> Recovery | None:
    """What became of an event at `at`; None while no new step is done. Steps that an old epoch
    still finished are its own."""
    old = epochs(stamps, at)
    last = max(stamp.step for stamp in stamps if stamp.epoch in old)
    after = sorted((s for s in stamps if s.epoch not in old), key=lambda stamp: stamp.time)
    counted = next((stamp for stamp in after if stamp.step > last), None)
    if counted is None:
        return None
    return Recovery(
        counted=counted.time - at,
        first=after[0].time - at,
        repeated=max(0, last + 1 - after[0].step),
    )


def longest_pause(stamps: Sequence[Stamp], since: float, until: float) -> float:
    """The longest time between two steps one after the other, from the last one before `since`
    to the first one after `until`; a step that another rank says later is not a second one."""
    done: dict[tuple[str, int], float] = {}
    for stamp in stamps:
        key = (stamp.epoch, stamp.step)
        done[key] = min(stamp.time, done.get(key, stamp.time))
    times = sorted(done.values())
    return max(
        later - sooner
        for sooner, later in itertools.pairwise(times)
        if later > since and sooner < until
    )


@dataclass(slots=True)
class Passage:
    """What the events of one generation say, in seconds of the clock of the stamps."""

    published: float
    entered: dict[int, float] = field(default_factory=dict)
    restored: dict[int, tuple[float, Mapping[str, float]]] = field(default_factory=dict)
    first_step: float | None = None


def stages(
    events: Sequence[Mapping[str, Any]], stamps: Sequence[Stamp], at: float
) -> dict[str, float] | None:
    """Where the time between `at` and the next new step went, by STAGES.

    `events` are a run's own, with their times on the stamps' clock. The rank that entered the
    new generation last is the one whose groups, build and state are told.
    """
    again = recovery(stamps, at)
    after = [event for event in events if event["time"] > at]
    begun = next((event for event in after if event["event"] == "generation.begin"), None)
    if again is None or begun is None:
        return None
    passage = _passage(after, begun)
    noticed = [e["time"] for e in after if e["event"] == "worker.exit" and not e["expected"]]
    if not passage.entered or not passage.restored or passage.first_step is None:
        return None
    detected = min([*noticed, passage.published])
    entered = max(passage.entered.values())
    slowest = max(passage.restored, key=lambda rank: passage.entered.get(rank, 0.0))
    restored = max(time for time, _ in passage.restored.values())
    parts = dict(passage.restored[slowest][1])
    within = sum(parts.values())
    # The parts as that rank measured them, stretched over the time until all ranks had done them.
    scale = (restored - entered) / within if within else 1.0
    return {
        "detect": detected - at,
        "agree": passage.published - detected,
        "leave": entered - passage.published,
        **{part: seconds * scale for part, seconds in parts.items()},
        "first step": passage.first_step - restored,
        "repeat": at + again.counted - passage.first_step,
    }


def _passage(events: Sequence[Mapping[str, Any]], begun: Mapping[str, Any]) -> Passage:
    passage = Passage(begun["time"])
    for event in events:
        if event["generation"] != begun["generation"]:
            continue
        match event["event"]:
            case "worker.begin":
                passage.entered[event["rank"]] = event["time"]
            case "state.restored":
                passage.restored[event["rank"]] = (event["time"], event["seconds"])
            case "generation.stepped":
                passage.first_step = event["time"]
    return passage
