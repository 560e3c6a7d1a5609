"""torchrun's flags, as `remesh run` takes them: hyphen or underscore, and from PET_* variables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from trainer.outside.numbers import seconds_flag, whole, whole_flag


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag. `ignored` says why it has no effect here; the user is told when it is given."""

    name: str
    help: str
    kind: Callable[[str], object] = str
    short: str | None = None
    choices: tuple[str, ...] | None = None
    ignored: str = ""
    scripts_only: bool = False

    @property
    def dest(self) -> str:
        return self.name.replace("-", "_")


FLAGS = (
    Flag(name="nnodes", help="number of nodes, or MIN:MAX"),
    Flag(
        name="nproc-per-node",
        help="workers on this node: a number, auto, cpu, gpu or another accelerator's name",
    ),
    Flag(
        name="rdzv-endpoint",
        help="HOST:PORT[,HOST:PORT…] of the rendezvous services; without it one runs in this agent",
    ),
    Flag(name="rdzv-id", help="name of the run, the same on all its nodes"),
    Flag(
        name="rdzv-backend",
        help="only `remesh` is spoken here; torchrun's names are accepted and mean the same",
    ),
    Flag(
        name="rdzv-conf",
        help="KEY=VALUE,…: join_timeout, last_call_timeout, beat_timeout, reconnect_grace, "
        "grow_interval, wait, tls_ca, tls_cert, tls_key, token_file",
    ),
    Flag(name="standalone", kind=bool, help="one node with a rendezvous of its own"),
    Flag(
        name="max-restarts", kind=whole_flag(), help="failures of the workers before the run fails"
    ),
    Flag(
        name="monitor-interval",
        kind=seconds_flag(),
        help="accepted",
        ignored="a worker's end is noticed at once, not at intervals",
    ),
    Flag(
        name="start-method",
        choices=("spawn", "fork", "forkserver"),
        help="accepted",
        ignored="each worker is a program of its own",
    ),
    Flag(
        name="event-log-handler",
        help="accepted",
        ignored="events are written to events.jsonl in the run directory",
    ),
    Flag(name="role", help="a name for the workers (ROLE_NAME)", scripts_only=True),
    Flag(
        name="module",
        short="m",
        kind=bool,
        help="the script is a Python module, run as `python -m` does",
        scripts_only=True,
    ),
    Flag(name="no-python", kind=bool, help="the script is a program of its own", scripts_only=True),
    Flag(
        name="run-path",
        kind=bool,
        help="the script is run as __main__ of an interpreter of its own, as ever",
        scripts_only=True,
    ),
    Flag(name="log-dir", help="where the log files go (default: in the run directory)"),
    Flag(
        name="redirects",
        short="r",
        help="streams that go to the log alone: 0 none, 1 stdout, 2 stderr, 3 both, or 0:1,1:3",
        scripts_only=True,
    ),
    Flag(
        name="tee",
        short="t",
        help="streams that also go to the console, each line behind [role local-rank]",
        scripts_only=True,
    ),
    Flag(
        name="local-ranks-filter",
        help="local ranks whose output reaches the console, such as 0,2",
        scripts_only=True,
    ),
    Flag(
        name="duplicate-stdout-filters",
        help="accepted",
        ignored="each rank's whole output is in its own log",
    ),
    Flag(
        name="duplicate-stderr-filters",
        help="accepted",
        ignored="each rank's whole output is in its own log",
    ),
    Flag(
        name="node-rank",
        kind=whole_flag(),
        help="accepted",
        ignored="ranks are agreed on by the nodes that are there",
    ),
    Flag(
        name="master-addr",
        help="MASTER_ADDR of a single node's workers",
        scripts_only=True,
    ),
    Flag(
        name="master-port",
        kind=whole_flag(),
        help="MASTER_PORT of a single node's workers (default: a free one for each generation)",
        scripts_only=True,
    ),
    Flag(name="local-addr", help="address of this node that the other nodes can reach"),
    Flag(
        name="logs-specs",
        help="accepted",
        ignored="logs have one layout: logs/g<generation>/rank<rank>.log",
    ),
    Flag(
        name="numa-binding",
        help="accepted",
        ignored="workers are not bound to processors; start the agent under numactl",
    ),
    Flag(
        name="signals-to-handle",
        help="signals that mean `leave` (default SIGTERM,SIGINT,SIGHUP,SIGQUIT)",
    ),
    Flag(
        name="shutdown-timeout",
        kind=whole_flag(),
        help="seconds between asking a worker to end and killing it (default 30)",
    ),
    Flag(
        name="virtual-local-rank",
        kind=bool,
        help="each worker sees its own GPU as device 0",
        scripts_only=True,
    ),
)

NAMING_FLAGS = ("module", "no-python", "run-path")
"""How the script is named; the other flags for scripts are about processes of one generation."""

TargetKind = Literal["job", "loop", "script"]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare every flag; one that is not given is None (False for a switch)."""
    group = parser.add_argument_group("torchrun's flags (also PET_<NAME> in the environment)")
    for flag in FLAGS:
        names = [f"--{flag.name}"]
        if flag.short:
            names.insert(0, f"-{flag.short}")
        if flag.dest != flag.name:
            names.append(f"--{flag.dest}")
        if flag.kind is bool:
            group.add_argument(*names, dest=flag.dest, action="store_true", help=flag.help)
        else:
            group.add_argument(
                *names,
                dest=flag.dest,
                type=flag.kind,
                choices=flag.choices,
                help=flag.help,
                metavar=flag.dest.upper() if flag.choices is None else None,
            )


def fill_from_environment(
    parsed: argparse.Namespace, parser: argparse.ArgumentParser, env: Mapping[str, str]
) -> None:
    """Take from PET_* what was not given; ends with exit code 2 for a value that can't be read."""
    for flag in FLAGS:
        text, given = env.get(f"PET_{flag.dest.upper()}"), getattr(parsed, flag.dest)
        # A 0 or an empty word was given, too; a switch that was not is False.
        if text is None or (given is not None and given is not False):
            continue
        try:
            value = bool(whole(text)) if flag.kind is bool else flag.kind(text)
        except (ValueError, argparse.ArgumentTypeError) as error:
            parser.error(f"PET_{flag.dest.upper()}: {error}")
        setattr(parsed, flag.dest, value)


def notices(parsed: argparse.Namespace, *, kind: TargetKind) -> list[str]:
    """A line for each given flag that has no effect."""
    lines = []
    for flag in FLAGS:
        value = getattr(parsed, flag.dest)
        if value is None or value is False:
            continue
        if flag.ignored:
            lines.append(f"--{flag.name} has no effect: {flag.ignored}")
        elif flag.scripts_only and kind == "job":
            lines.append(f"--{flag.name} has no effect on a job file")
        elif flag.scripts_only and kind == "loop" and flag.name not in NAMING_FLAGS:
            lines.append(f"--{flag.name} has no effect with --elastic")
    return lines
