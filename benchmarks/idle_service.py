"""What the rendezvous service costs while nothing is to be done, whatever its etcd is like.

    python benchmarks/idle_service.py                             all states: about seven minutes
    python benchmarks/idle_service.py --states full no-quorum     some of them

Two replicas live in each state, on a real etcd. Once they are there and have settled, their
processor time is taken from /proc before and after; the figure is of the busier one, in percent of
one core. It is processor time, so that a busy machine does not change it much.

The last line is one JSON object; `goal` says whether each is under 1 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

# Not this file's folder, in which `rendezvous.py` has the name of a package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.control_plane.troubles import STATES, State  # noqa: E402

GOAL_PERCENT = 1.0
SETTLE_SECONDS = 5.0
LEAST_SECONDS = 20.0


async def measure(state: State, folder: Path, seconds: float, settle: float) -> list[float]:
    """Percent of a core of each replica, over so many seconds."""
    async with state(folder) as replicas:
        await asyncio.sleep(settle)
        loop = asyncio.get_running_loop()
        began, before = loop.time(), [replica.cpu_seconds() for replica in replicas]
        await asyncio.sleep(seconds)
        took = loop.time() - began
        after = [replica.cpu_seconds() for replica in replicas]
        return [round(100 * (b - a) / took, 2) for a, b in zip(before, after, strict=True)]


async def main(args: argparse.Namespace) -> None:
    found: dict[str, Any] = {}
    for name in args.states:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = await measure(STATES[name], Path(folder), args.seconds, args.settle)
        print(f"{name:<16} {', '.join(f'{percent:.2f} %' for percent in found[name])}", flush=True)
    above = {name: max(both) for name, both in found.items() if max(both) >= GOAL_PERCENT}
    told = f"NO: {above}" if above else f"yes: {max(max(both) for both in found.values())} %"
    print(f"goal: under {GOAL_PERCENT} % of a core in each state: {told}")
    result = {"benchmark": "idle_service", "seconds": args.seconds, "percent_of_a_core": found}
    print(json.dumps({**result, "goal": told}))


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--states", nargs="+", choices=STATES, default=list(STATES))
    parser.add_argument(
        "--seconds", type=float, default=LEAST_SECONDS, help="of each state (default: 20)"
    )
    parser.add_argument(
        "--settle", type=float, default=SETTLE_SECONDS, help="before these (default: 5)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    # So that an interrupted run leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    asyncio.run(main(arguments()))
