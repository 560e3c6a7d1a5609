"""`remesh status`: how a run is doing, from its run directory."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.errors import JobError
from trainer.telemetry import RunDirectory, find_run, read_status
from trainer.telemetry.files import read_json
from trainer.telemetry.progress import duration, mesh_text

SHOWN_NODES = 4


def main(argv: Sequence[str]) -> int:
    """Prints; 0 when there is a status."""
    parser = argparse.ArgumentParser(prog="remesh status", description=__doc__)
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a run directory or id (default: the newest in runs/)"
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parsed = parser.parse_args(argv)
    root = (find_run(parsed.run) or Path(parsed.run)) if parsed.run else _newest(Path("runs"))
    status = read_status(root)
    if status is None:
        raise JobError(f"{root} holds no status.json; give the directory of a run")
    print(json.dumps(status, indent=1) if parsed.json else "\n".join(_lines(status, root)))
    return 0


def _newest(runs: Path) -> Path:
    found = sorted(runs.glob("*/status.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise JobError(f"no run in {runs.absolute()}; give the directory of a run")
    return found[-1].parent


def _lines(status: dict[str, Any], root: Path) -> list[str]:
    age = duration(max(0.0, time.time() - status.get("time", time.time())))
    lines = [
        f"{status.get('run_id')}  {status.get('state')}  ({root}, {age} ago)",
        f"generation {status.get('generation')}: {status.get('world_size')} ranks"
        f"  {mesh_text(status.get('mesh'))}  {status.get('reason')}",
    ]
    if status.get("step"):
        total = f"/{status['total_steps']}" if status.get("total_steps") else ""
        loss = f"  loss {status['loss']:.4f}" if status.get("loss") is not None else ""
        lines.append(f"step {status['step']}{total}{loss}  lost steps {status.get('lost_steps')}")
    lines += _foreseen(read_json(RunDirectory(root).plans), status.get("generation"))
    for agent in status["agents"]:
        old = "" if agent["current"] else f"  (last heard of in generation {agent['generation']})"
        lines.append(f"node {agent['node']}  {agent['state']}  pid {agent['pid']}{old}")
        for worker in status["workers"]:
            if worker["node"] == agent["node"]:
                rank = "-" if worker["rank"] is None else worker["rank"]
                lines.append(f"  rank {rank:>4}  {worker['state']:<9}  pid {worker['pid']}")
    return lines


def _foreseen(kept: dict[str, Any] | None, generation: int | None) -> list[str]:
    """What the loss of a node would mean, once for all nodes of which the same is true."""
    if kept is None or kept.get("generation") != generation:
        return []
    alike: dict[str, list[str]] = {}
    for plan in kept["without"]:
        then = plan["mesh"] if not plan["waits"] else f"none ({plan['reason']})"
        told = f"mesh {then}, {plan['steps_at_risk']} steps at risk"
        alike.setdefault(told, []).append(plan["node"])
    lines = []
    for told, nodes in alike.items():
        more = f" or {len(nodes) - SHOWN_NODES} more" if len(nodes) > SHOWN_NODES else ""
        lines.append(f"without {' or '.join(nodes[:SHOWN_NODES])}{more}: {told}")
    return lines
