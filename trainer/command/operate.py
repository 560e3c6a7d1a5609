"""`remesh scale` and `remesh drain` on a run of this machine or file system, without a cluster.

RUN is a run directory, or the id of a run below `runs/`. The run says itself where its rendezvous
service is, and in which file its token lies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.command.parser import Parser
from trainer.errors import JobError
from trainer.outside.echo import cut
from trainer.outside.numbers import seconds_flag, whole_flag
from trainer.telemetry import RunDirectory, read_status
from trainer.telemetry.runs import OVER, named_run

EXIT_REFUSED = 1
GRACE_SECONDS = 30.0
FILES = ("ca", "cert", "key", "token_file")
"""What a run may say of how its service is spoken to, as `Security.from_files` names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that goes on. Without `endpoints` it has one node, and its rendezvous is in there."""

    root: Path
    run_id: str
    endpoints: tuple[str, ...]
    files: Mapping[str, str]
    agents: tuple[Mapping[str, Any], ...]

    @property
    def nodes(self) -> list[str]:
        """Those that are known to take part now."""
        return [agent["node"] for agent in self.agents if agent["current"]]


def open_run(word: str) -> Run:
    """Raises JobError when there is no such run, or when it is over."""
    root = named_run(word)
    try:
        status = read_status(root)
    except ValueError as error:
        raise JobError(str(error)) from None
    if status is None:
        raise JobError(f"the run in {root} has not begun yet")
    if status.get("state") in OVER:
        raise JobError(f"run {status.get('run_id')} is over ({status['state']}): {root}")
    meeting = status.get("rendezvous") or {}
    return Run(
        root=root,
        run_id=str(status.get("run_id")),
        endpoints=tuple(meeting.get("endpoints") or ()),
        files={key: path for key, path in (meeting.get("files") or {}).items() if key in FILES},
        agents=tuple(status["agents"]),
    )


def main(name: str, argv: Sequence[str]) -> int:
    """Returns the exit code. Raises JobError for what the user has to mend."""
    return {"scale": _scale, "drain": _drain}[name](argv)


def scale_parser() -> Parser:
    """Takes one run and what is asked of it."""
    made = Parser(
        prog="remesh scale",
        example="remesh scale crew --nodes 3",
        cluster="scale",
        description="Change a run's number of nodes, at the next step boundary. Nodes that are "
        "too many hand their state over and wait as spares; no step is repeated.",
    )
    made.add_argument("run", metavar="RUN", help="a run directory, or the id of a run in runs/")
    made.add_argument(
        "--nodes", type=whole_flag(1, 65_536), required=True, help="within elastic.nodes"
    )
    return made


def _scale(argv: Sequence[str]) -> int:
    parsed = scale_parser().parse_args(argv)
    run = open_run(parsed.run)
    if not run.endpoints:
        raise JobError(
            f"run {run.run_id} has one node, with its rendezvous inside the agent; for a number "
            "of nodes that can change, start it with --rdzv-endpoint (see `remesh rendezvous`)"
        )
    refused = asyncio.run(_ask(run, "scale", nodes=parsed.nodes))
    if refused:
        return _fail(refused)
    wanted = f"{parsed.nodes} node{'s' * (parsed.nodes != 1)}"
    print(f"run {run.run_id} was asked to have {wanted}; it has {len(run.nodes)} now")
    if parsed.nodes < len(run.nodes):
        print(f"who is too many waits as a spare; `remesh drain {parsed.run} --node NODE` ends it")
    elif parsed.nodes > len(run.nodes):
        print("spares enter at a step boundary; other nodes may be started at any time")
    return 0


def drain_parser() -> Parser:
    """Takes one run and what is asked of it."""
    made = Parser(
        prog="remesh drain",
        example="remesh drain crew --node b",
        cluster="drain",
        description="Have one node hand its state over and leave, or the whole run save and end. "
        "Either ends with exit code 75 and repeats no step.",
    )
    made.add_argument("run", metavar="RUN", help="a run directory, or the id of a run in runs/")
    made.add_argument("--node", metavar="NAME", help="one node; without it, all of the run")
    made.add_argument(
        "--grace",
        type=seconds_flag(),
        default=GRACE_SECONDS,
        metavar="SECONDS",
        help="(default %(default)g)",
    )
    made.add_argument("--reason", default="an operator asked for it", help="for the record")
    return made


def _drain(argv: Sequence[str]) -> int:
    parsed = drain_parser().parse_args(argv)
    run = open_run(parsed.run)
    if parsed.node is not None and parsed.node not in [agent["node"] for agent in run.agents]:
        there = ", ".join(run.nodes)
        raise JobError(f"run {run.run_id} has no node {cut(parsed.node)}; it has {there}")
    if not run.endpoints:
        return _signal_agent(run)
    if parsed.node is None:
        refused = asyncio.run(_ask(run, "stop", reason=parsed.reason))
    else:
        refused = asyncio.run(
            _ask(run, "drain", node=parsed.node, grace=parsed.grace, reason=parsed.reason)
        )
    if refused:
        return _fail(refused)
    print(f"{parsed.node or f'run {run.run_id}'} was told to leave")
    return 0


def _signal_agent(run: Run) -> int:
    """Without a service the only agent hears of it as it would from its platform: by SIGTERM."""
    agent = next((agent for agent in run.agents if agent["pid"]), None)
    if agent is None:
        raise JobError(f"run {run.run_id} has no agent yet")
    if not _holds(int(agent["pid"]), run.root):
        raise JobError(
            f"run {run.run_id} has one node, with its rendezvous inside the agent, which is not "
            f"on this machine or not yours; there, `kill -TERM {agent['pid']}` drains it"
        )
    os.kill(int(agent["pid"]), signal.SIGTERM)
    print(f"{agent['node']}, the only node of run {run.run_id}, was told to save and leave")
    return 0


def _holds(pid: int, root: Path) -> bool:
    """Whether this process has the run: numbers are used again, open files are not."""
    lock = str(RunDirectory(root).lock_file.resolve())
    try:
        return any(str(link.readlink()) == lock for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


async def _ask(run: Run, what: str, **wish: Any) -> str:
    """What the service refuses it for; empty when it was accepted."""
    from rendezvous.errors import RendezvousError
    from rendezvous.security import Security
    from rendezvous.session.operator import Operator

    try:
        security = Security.from_files(**run.files)
        async with Operator(run.endpoints, security=security) as operator:
            reply = await getattr(operator, what)(run.run_id, **wish)
    except RendezvousError as error:
        return str(error)
    return "" if reply.accepted else str(reply.reason)


def _fail(reason: str) -> int:
    print(f"remesh: {reason}", file=sys.stderr)
    return EXIT_REFUSED
