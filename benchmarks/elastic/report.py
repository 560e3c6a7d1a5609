"""Medians, spreads, ratios and goals over the records of any number of runs. Pure."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.elastic.timeline import STAGES

BEAT_TIMEOUT = 1.0
KEYS = ("counted", "first", "repeated", "pause")

Record = Mapping[str, Any]


def summarize(records: Sequence[Record]) -> dict[str, Any]:
    """By event, compiled or not, and system; then what of the goals is reached."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        event = record["event"] + " compiled" * record["compiled"]
        groups[event, record["system"]].append(record)
    events: dict[str, dict[str, Any]] = defaultdict(dict)
    for (event, system), of_group in groups.items():
        events[event][system] = _of_group(of_group)
    return {"name": "recovery", "events": dict(events), "goals": goals(events)}


def _of_group(records: Sequence[Record]) -> dict[str, Any]:
    good = [record for record in records if record["outcome"] == "recovered"]
    found: dict[str, Any] = {"runs": len(records), "recovered": len(good)}
    if len(good) < len(records):
        found["otherwise"] = sorted({r["outcome"] for r in records} - {"recovered"})
    for key in KEYS if good else ():
        values = [record[key] for record in good]
        found[key] = {
            "median": round(statistics.median(values), 3),
            "spread": [round(min(values), 3), round(max(values), 3)],
        }
    parts = [record["stages"] for record in good if record["stages"]]
    if parts:
        found["stages"] = {
            stage: round(statistics.median(part.get(stage, 0.0) for part in parts), 3)
            for stage in STAGES
        }
    return found


def goals(events: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each goal with what was reached and whether that is enough; those not measured are left
    out."""

    def median(event: str, system: str, key: str) -> float | None:
        found = events.get(event, {}).get(system, {}).get(key)
        return None if found is None else float(found["median"])

    def faster(event: str, peer: str, ours: str = "remesh") -> float | None:
        mine, theirs = median(event, ours, "counted"), median(event, peer, "counted")
        return None if mine is None or theirs is None else theirs / mine

    drain = events.get("drain", {}).get("remesh", {}).get("repeated")
    asked: dict[str, tuple[float | None, float, bool]] = {
        "worker: times faster than tuned torchrun": (faster("worker", "torchrun-tuned"), 10, True),
        "worker compiled: times faster than tuned torchrun": (
            faster("worker compiled", "torchrun-tuned"), 20, True,
        ),
        "worker: times faster than NVRx in-process": (faster("worker", "nvrx"), 2, True),
        "worker, replicas: times faster than tuned torchrun": (
            faster("worker", "torchrun-tuned", "remesh-replicas"), 10, True,
        ),
        "worker compiled, replicas: times faster than tuned torchrun": (
            faster("worker compiled", "torchrun-tuned", "remesh-replicas"), 20, True,
        ),
        "worker, replicas: times faster than NVRx in-process": (
            faster("worker", "nvrx", "remesh-replicas"), 2, True,
        ),
        "loss: times faster than tuned torchrun": (faster("loss", "torchrun-tuned"), 5, True),
        "loss: seconds": (median("loss", "remesh", "counted"), 1.5 * BEAT_TIMEOUT, False),
        "return: longest pause": (median("return", "remesh", "pause"), 0.5, False),
        "drain: steps repeated, at most": (drain and float(drain["spread"][1]), 0, False),
    }  # fmt: skip
    return {
        name: {
            "reached": round(reached, 3),
            "goal": goal,
            "met": reached >= goal if more else reached <= goal,
        }
        for name, (reached, goal, more) in asked.items()
        if reached is not None
    }


def table(summary: Mapping[str, Any]) -> str:
    """What a person reads."""
    lines = []
    for event, systems in summary["events"].items():
        lines.append(f"\n{event:24}{'runs':>6}{'counted':>22}{'repeated':>14}{'pause':>22}")
        for system, found in systems.items():
            cells = f"  {system:22}{found['recovered']:>3}/{found['runs']:<2}"
            if "counted" in found:
                cells += f"{_cell(found['counted']):>22}{_cell(found['repeated']):>14}"
                cells += f"{_cell(found['pause']):>22}"
            lines.append(cells + "".join(f"  {why}" for why in found.get("otherwise", ())))
        parts = systems.get("remesh", {}).get("stages")
        if parts:
            told = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in parts.items())
            lines.append(f"  where it went: {told}")
    lines.append("")
    for name, goal in summary["goals"].items():
        met = "met" if goal["met"] else "MISSED"
        lines.append(f"{name:60} {goal['reached']:>8.2f}  goal {goal['goal']:<5} {met}")
    return "\n".join(lines)


def _cell(value: Mapping[str, Any]) -> str:
    low, high = value["spread"]
    return f"{value['median']:.2f} ({low:.2f}–{high:.2f})"
