"""What a run says that it spent its time on, held against its steps. Pure."""

from __future__ import annotations

import math

from trainer.audit.checks import Check, verdict
from trainer.audit.record import RunRecord
from trainer.telemetry.shares import Shares
from trainer.telemetry.standstill import Standstill

NAME = "time"
PARTS = ("good_seconds", "stood_still_seconds", "other_seconds")
SHOWN_STEPS = 3
TOLERANCE = 1e-6
"""Of the wall time: sums of many floats."""


def check_time(record: RunRecord) -> Check:
    """The parts of the wall time make up all of it, and no step is good while it stood still.

    What a run of an older version says is not held against it, but told.
    """
    summary = record.summary or {}
    wall = summary.get("wall_seconds")
    if wall is None:
        return Check(name=NAME, status="skipped", text="the run has not said yet how long it took")
    standstill = Standstill.over(record.metrics)
    counted = math.fsum(float(line.get("step_seconds") or 0.0) for line in record.metrics)
    within = standstill.seconds
    found = Shares.of(wall, counted=counted, inside=within, between=0.0)
    guesses = [f"step {v.step} by {v.guessed:.1f} s ({v.reason})" for v in standstill.alone()]
    far = f"; far outside their neighbours: {'; '.join(guesses[:SHOWN_STEPS])}" if guesses else ""
    if any(summary.get(part) is None for part in PARTS):
        old = "its summary, of an older version, knows of no standing still; by its steps: "
        return Check(name=NAME, status="ok", text=f"{old}{found}{far}")
    good, still, other = (float(summary[part]) for part in PARTS)
    problems = []
    if not math.isclose(good + still + other, wall, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        problems.append(f"the parts make up {good + still + other:.1f} s of {wall:.1f} s")
    if good > found.good + TOLERANCE * wall:
        problems.append(f"{good:.1f} s are said to be good, the steps have {found.good:.1f} s")
    told = Shares(wall=wall, good=good, stood_still=still, other=other)
    return verdict(NAME, f"{told}{far}", problems)
