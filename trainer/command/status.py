"""`remesh status`: how a run is doing, from its run directory."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.command.parser import Parser
from trainer.command.plan import read_losses
from trainer.command.run_logs import read_start
from trainer.errors import JobError
from trainer.job import load
from trainer.telemetry import RunDirectory, find_run, read_status
from trainer.telemetry.documents import SUMMARY
from trainer.telemetry.files import read_document
from trainer.telemetry.progress import (
    NO_CURSOR,
    PLAIN_INTERVAL_SECONDS,
    duration,
    mesh_text,
)
from trainer.telemetry.runs import RunRecord, newest_run, read_run
from trainer.telemetry.shares import STANDSTILL_SECONDS

if TYPE_CHECKING:
    from trainer.mesh import Losses

SHOWN_NODES = 4
WATCH_SECONDS = 1.0
"""Between two looks; a status is written at most twice a second."""


def parser() -> Parser:
    """Takes one run, or none for the newest."""
    made = Parser(
        prog="remesh status",
        example="remesh status quickstart --watch",
        cluster="status",
        description="Show how a run is doing, or how it ended and how it goes on.",
    )
    made.add_argument(
        "run", nargs="?", metavar="RUN", help="a run directory or id (default: the newest in runs/)"
    )
    made.add_argument("--json", action="store_true", help="as one JSON object")
    made.add_argument("--watch", action="store_true", help="go on until the run is over")
    return made


def main(argv: Sequence[str]) -> int:
    """Prints; 0 when there is a status."""
    parsed = parser().parse_args(argv)
    root = (find_run(parsed.run) or Path(parsed.run)) if parsed.run else newest_run()
    if parsed.watch and not parsed.json:
        _watch(root)
        return 0
    run, status = _read(root)
    print(json.dumps(status, indent=1) if parsed.json else "\n".join(_lines(run, status)))
    return 0


def _read(root: Path) -> tuple[RunRecord, dict[str, Any]]:
    """How the run stands; `live` in the status says whether an agent takes part in it now."""
    run = read_run(root, time.time())
    if run is None:
        raise JobError(f"{root} holds no run; give the directory of one, `remesh runs` lists them")
    try:
        status = read_status(root) or {"run_id": run.run_id, "state": "starting"}
    except ValueError as error:
        raise JobError(str(error)) from None
    return run, {"agents": [], "workers": [], **status, "live": run.live}


def _watch(root: Path) -> None:
    """Redrawn on a terminal that can; on one that can't, told anew when it has changed, and
    elsewhere the last state alone."""
    if sys.stdout.isatty() and os.environ.get("TERM") in NO_CURSOR:
        _tell_changes(root)
        return
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        while True:
            run, status = _read(root)
            live.update(Text("\n".join(_lines(run, status))), refresh=True)
            if not run.live:
                return
            time.sleep(WATCH_SECONDS)


def _tell_changes(root: Path) -> None:
    """All of it for another generation or state; for more steps alone, a line now and then."""
    told: tuple[object, ...] | None = None
    at = float("-inf")
    while True:
        run, status = _read(root)
        now, stands = time.monotonic(), (run.state, status.get("state"), status.get("generation"))
        if stands != told or now - at >= PLAIN_INTERVAL_SECONDS:
            for line in _lines(run, status) if stands != told else _steps(run, status):
                print(line)
            told, at = stands, now
        if not run.live:
            return
        time.sleep(WATCH_SECONDS)


def _lines(run: RunRecord, status: dict[str, Any]) -> list[str]:
    age = duration(max(0.0, time.time() - run.changed))
    word = status.get("state") if run.live else run.state
    lines = [f"{run.run_id}  {word}  ({run.root}, {age} ago)"]
    if run.state == "dead":
        had = "; the pids that it had:" if status["agents"] else ""
        lines.append(f"no agent of it is alive, and nobody ended it{had}")
        lines += [f"  node {a['node']}  pid {a['pid']}" for a in status["agents"][:SHOWN_NODES]]
    if status.get("generation"):
        size = status.get("world_size")
        lines.append(
            f"generation {status.get('generation')}: {size} rank{'s' * (size != 1)}"
            f"  {mesh_text(status.get('mesh'))}  {status.get('reason')}"
        )
    return [*lines, *_steps(run, status), *(_going_on(run, status) if run.live else _over(run))]


def _steps(run: RunRecord, status: dict[str, Any]) -> list[str]:
    """A line where there is a step, and one of what became of the time, where that is known."""
    lines = []
    if run.step:
        total = f"/{run.total_steps}" if run.total_steps else ""
        loss = f"  loss {run.loss:.4f}" if run.loss is not None else ""
        lines.append(f"step {run.step}{total}{loss}  lost steps {status.get('lost_steps')}")
    if status.get("good_seconds") is not None and status.get("wall_seconds"):
        lines.append(_time(status))
    return lines


def _time(status: dict[str, Any]) -> str:
    """What became of the time in which the run was up."""
    wall, good = status["wall_seconds"], status["good_seconds"]
    still = status.get("stood_still_seconds") or 0.0
    told = f"{duration(wall)} up: {good / wall:.0%} in steps that count"
    return told + (f", stood still for {duration(still)}" if still >= STANDSTILL_SECONDS else "")


def _over(run: RunRecord) -> list[str]:
    """What came of it, and how it goes on."""
    try:
        summary = read_document(RunDirectory(run.root).summary, SUMMARY) or {}
    except ValueError as error:
        return [f"how it ended can't be told: {error}"]
    lines = []
    if run.state != "dead" and summary.get("reason"):
        lines.append(f"because: {summary['reason']}")
    if run.state == "completed" and summary.get("weights_sha256"):
        lines.append(f"weights sha256 {summary['weights_sha256']}")
    if run.unfinished(run.total_steps):
        lines.append(_how_to_go_on(run))
    return lines


def _how_to_go_on(run: RunRecord) -> str:
    """One command, or for several nodes and for plain scripts the one that began it."""
    began = read_start(run.root)
    before = shlex.join(["remesh", "run", *(began.get("arguments") or ())])
    if began.get("endpoints"):
        return f"to go on: start each node again; one was started with: {before}"
    if _saves_for_itself(run.root):
        return f"to start it again, from what the script itself has saved: {before}"
    return f"to go on: remesh resume {shlex.quote(str(run.root))}"


def _saves_for_itself(root: Path) -> bool:
    try:
        job = load(RunDirectory(root).job)
    except JobError:
        return False
    return not job.trains and not job.saves


def _going_on(run: RunRecord, status: dict[str, Any]) -> list[str]:
    try:
        lines = _foreseen(read_losses(run.root), status.get("generation"))
    except JobError as error:
        # The rest can be told all the same.
        lines = [str(error)]
    lines += status.get("damaged", [])
    for agent in status["agents"]:
        old = "" if agent["current"] else f"  (last heard of in generation {agent['generation']})"
        lines.append(f"node {agent['node']}  {agent['state']}  pid {agent['pid']}{old}")
        for worker in status["workers"]:
            if worker["node"] == agent["node"]:
                rank = "-" if worker.get("rank") is None else worker["rank"]
                state, pid = worker.get("state") or "", worker.get("pid")
                lines.append(f"  rank {rank:>4}  {state:<9}  pid {pid}")
    return lines


def _foreseen(kept: Losses | None, generation: int | None) -> list[str]:
    """What the loss of a node would mean, once for all nodes of which the same is true."""
    if kept is None or kept.generation != generation:
        return []
    alike: dict[str, list[str]] = {}
    for loss in kept.without:
        then = loss.mesh if not loss.waits else f"none ({loss.reason})"
        told = f"mesh {then}, {loss.steps_at_risk} steps at risk"
        alike.setdefault(told, []).append(loss.node)
    lines = []
    for told, nodes in alike.items():
        more = f" or {len(nodes) - SHOWN_NODES} more" if len(nodes) > SHOWN_NODES else ""
        lines.append(f"without {' or '.join(nodes[:SHOWN_NODES])}{more}: {told}")
    return lines
