"""What benchmarks/rendezvous.py is to show, and medians over its runs. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

IDLE_CORES = 0.2
TEN_THOUSAND_SECONDS = 10.0


def medians(every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Field by field, over nested dicts of numbers; None where a run has none."""
    told: dict[str, Any] = {}
    for key in every[0]:
        values = [one[key] for one in every]
        if any(value is None for value in values):
            told[key] = None
        elif isinstance(values[0], Mapping):
            told[key] = medians(values)
        else:
            told[key] = statistics.median(values)
    seconds = [one["seconds"] for one in every if one.get("seconds") is not None]
    if len(seconds) > 1:
        told["spread"] = [round(min(seconds), 3), round(max(seconds), 3)]
    return told


def reached(results: Mapping[str, Any]) -> dict[str, str]:
    """Each goal that these sizes can show: whether it was reached, and the figures."""
    told: dict[str, str] = {}
    ours, theirs = results["remesh"], results["c10d"]

    def say(goal: str, holds: bool, figures: str) -> None:
        told[goal] = f"{'yes' if holds else 'NO'}: {figures}"

    if 128 in ours and 128 in theirs:
        mine, other = _after_loss(ours[128]), _after_loss(theirs[128])
        figures = f"{mine:.2f} s, c10d {f'{other:.1f} s' if other else 'does not finish'}"
        say("128 agents: 20 times faster", other is None or other >= 20 * mine, figures)
    if 256 in ours:
        mine = _after_loss(ours[256])
        end = "c10d not measured"
        if 256 in theirs:
            other = _after_loss(theirs[256])
            end = f"c10d {f'{other:.1f} s' if other else 'does not finish'}"
        say("256 agents: under 1 s", mine < 1.0, f"{mine:.2f} s, {end}")
    if 1_000 in ours:
        mine = _after_loss(ours[1_000])
        say("a change reaches 1,000 in under 1 s", mine < 1.0, f"{mine:.2f} s")
    if 10_000 in ours:
        last = ours[10_000]["first"]["after_last_join"]
        holds = last <= TEN_THOUSAND_SECONDS
        say("10,000 within 10 s of the last join", holds, f"{last:.2f} s")
    large = [size for size in ours if size >= 1_000]
    if len(large) > 1:
        rates = {size: ours[size]["first"]["seconds"] / size * 1000 for size in large}
        figures = ", ".join(f"{size}: {rate:.2f} ms an agent" for size, rate in rates.items())
        say("no worse than linear", rates[max(large)] <= 1.25 * rates[min(large)], figures)
    writes = {
        name: {size: int(one[name]["etcd_writes"]) for size, one in ours.items()}
        for name in ("first", "after_loss")
    }
    constant = all(len(set(by_size.values())) == 1 for by_size in writes.values())
    figures = ", ".join(f"{name} {sorted(set(w.values()))}" for name, w in writes.items())
    say("etcd's writes don't depend on the size", constant, figures)
    idle = results["idle"]
    cores, idle_writes = idle["service_cores"], idle["etcd_writes"]
    figures = f"{cores} cores, {idle_writes} writes for {idle['agents']} agents"
    say("idle: under 20 % of a core, no write", cores < IDLE_CORES and not idle_writes, figures)
    return told


def _after_loss(one: Mapping[str, Any]) -> float | None:
    """None if a round did not finish."""
    after = one["after_loss"]
    return None if after is None else after["seconds"]
