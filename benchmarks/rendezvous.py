"""How fast nodes agree, and what it costs: Remesh's rendezvous beside torchrun's own (c10d).

    python benchmarks/rendezvous.py            all of it, on a real etcd: about ten minutes
    python benchmarks/rendezvous.py --quick    two sizes of each: under a minute

Every figure is the median of several runs (`--runs`).

1. Both, N = 8 … 256 simulated agents: the first round, and the round after one agent's loss.
   Remesh's agent vanishes without a word, and the service has to find out; torchrun's takes its
   leave, is replaced at once, and the others are told: the best case of its protocol.
2. Remesh alone, N = 1,000 … 10,000, a hundred agents to a connection; 1,000 also with one each.
3. What 1,000 agents cost that do nothing but beat.

The last line is one JSON object; `goals` in it says what was to be reached, and what was.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

# Not this file's folder: `rendezvous` is a package of the repository, and this file's name too.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.control_plane import c10d, goals, processes  # noqa: E402
from benchmarks.control_plane.crowd import Crowd  # noqa: E402

SMALL, QUICK_SMALL = (8, 32, 64, 128, 256), (8, 32)
LARGE, QUICK_LARGE = (1_000, 4_000, 10_000), (200,)
SHARED = 100
C10D_OFTEN = 64
"""Up to so many agents of torchrun's own rendezvous there are several runs."""
RUNS = 3
PATIENT_BEATS = 30.0
"""Seconds of the beat timeout where only rounds are measured: all agents share two cores."""


async def measure(
    service: processes.Service, etcd: processes.Etcd, size: int, per_channel: int, runs: int
) -> dict[str, Any]:
    """A crowd's first round, and the one after a loss: medians."""
    every = [await measure_once(service, etcd, size, per_channel) for _ in range(runs)]
    return goals.medians(every)


async def measure_once(
    service: processes.Service, etcd: processes.Etcd, size: int, per_channel: int
) -> dict[str, Any]:
    async with Crowd(
        service.endpoint, size, per_channel=per_channel, beat_timeout=PATIENT_BEATS
    ) as crowd:
        messages, cpu = service.messages(), service.cpu_seconds()
        storm = await crowd.storm()
        last_join = await crowd.last_join()
        first = {
            "seconds": storm + last_join,
            "after_last_join": last_join,
            "messages": await asyncio.to_thread(service.messages) - messages,
            "etcd_writes": etcd.writes(crowd.run_id),
            "service_cpu": service.cpu_seconds() - cpu,
        }
        await crowd.ready()
        writes, messages = etcd.writes(crowd.run_id), service.messages()
        seconds = await crowd.loss()
        after_loss = {
            "seconds": seconds,
            "messages": await asyncio.to_thread(service.messages) - messages,
            "etcd_writes": etcd.writes(crowd.run_id) - writes,
        }
        return {
            "first": first,
            "after_loss": after_loss,
            "disturbed": crowd.disturbed,
            "service_mib": service.resident_bytes() >> 20,
        }


async def idle(
    service: processes.Service, etcd: processes.Etcd, size: int, beat_timeout: float, long: float
) -> dict[str, Any]:
    """What `size` agents cost that only beat, `long` seconds of it."""
    async with Crowd(
        service.endpoint, size, per_channel=SHARED, beat_timeout=beat_timeout
    ) as crowd:
        await crowd.storm()
        await crowd.last_join()
        await crowd.ready()
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        revision, beats, cpu = etcd.revision(), service.beats(), service.cpu_seconds()
        began = loop.time()
        await asyncio.sleep(long)
        took = loop.time() - began
        return {
            "agents": size,
            "beat_timeout": beat_timeout,
            "beats_per_second": round((service.beats() - beats) / took),
            "service_cores": round((service.cpu_seconds() - cpu) / took, 3),
            "etcd_writes": etcd.revision() - revision,
            "disturbed": crowd.disturbed,
        }


async def remesh(args: argparse.Namespace, directory: Path, results: dict[str, Any]) -> None:
    with (
        processes.etcd(directory) as etcd,
        processes.service(f"etcd://{etcd.endpoint}", directory) as service,
    ):
        for size in (*args.small, *args.large):
            results["remesh"][size] = told = await measure(service, etcd, size, SHARED, args.runs)
            say(f"remesh {size:>6}", told)
        if args.own_connections:
            told = await measure(service, etcd, args.own_connections, 1, args.runs)
            results["own_connections"] = {args.own_connections: told}
            say(f"remesh {args.own_connections:>6}, a connection each", told)
        results["idle"] = await idle(
            service, etcd, args.idle, args.idle_beat_timeout, args.idle_seconds
        )
        print("idle", json.dumps(results["idle"]), flush=True)
        results["leaderships"] = service.leaderships()


def torchrun(args: argparse.Namespace, results: dict[str, Any]) -> None:
    crowd = c10d.Crowd()
    try:
        for size in args.small:
            runs = args.runs if size <= C10D_OFTEN else 1
            every = [crowd.measure(size, args.patience) for _ in range(runs)]
            results["c10d"][size] = told = goals.medians(every)
            say(f"c10d   {size:>6}", told)
            if told["after_loss"] is None or told["after_loss"]["seconds"] is None:
                print(f"c10d did not finish within {args.patience:.0f} s: no larger sizes")
                break
    finally:
        crowd.close()


def say(who: str, told: dict[str, Any]) -> None:
    parts = []
    for name in ("first", "after_loss"):
        numbers = {k: v for k, v in (told[name] or {}).items() if v is not None}
        words = ", ".join(
            f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}"
            for key, value in numbers.items()
        )
        parts.append(f"{name}: {words or 'not finished'}")
    print(f"{who}  " + " | ".join(parts), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument("--small", type=_sizes, help="sizes for both (default: 8,32,…,256)")
    parser.add_argument("--large", type=_sizes, help="sizes for Remesh alone")
    parser.add_argument("--own-connections", type=int, help="agents with a connection each")
    parser.add_argument("--idle", type=int, help="agents that only beat")
    parser.add_argument("--idle-seconds", type=float, help="how long")
    parser.add_argument("--idle-beat-timeout", type=float, default=1.0, help="seconds")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds a c10d round has")
    parser.add_argument("--runs", type=int, help=f"of each size (default: {RUNS})")
    parser.add_argument("--no-c10d", action="store_true", help="Remesh alone")
    args = parser.parse_args()
    args.small = (QUICK_SMALL if args.quick else SMALL) if args.small is None else args.small
    args.large = (QUICK_LARGE if args.quick else LARGE) if args.large is None else args.large
    for name, quick, full in (
        ("own_connections", 100, 1_000),
        ("idle", 200, 1_000),
        ("idle_seconds", 5.0, 20.0),
        ("runs", 1, RUNS),
    ):
        if getattr(args, name) is None:
            setattr(args, name, quick if args.quick else full)
    # Ten thousand agents in one process are simulated; that process's garbage is not what counts.
    gc.set_threshold(100_000)
    # So that an interrupted run leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    results: dict[str, Any] = {"benchmark": "rendezvous", "cores": os.cpu_count()}
    results |= {"remesh": {}, "c10d": {}}
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(remesh(args, Path(directory), results))
    if not args.no_c10d:
        torchrun(args, results)
    results["goals"] = goals.reached(results)
    for goal, outcome in results["goals"].items():
        print(f"goal: {goal}: {outcome}")
    print(json.dumps(results))


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(",") if size)


if __name__ == "__main__":
    main()
