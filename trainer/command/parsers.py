"""All parsers of `remesh` at once: for completion, and for the test of every help."""

from __future__ import annotations

import argparse
from importlib import import_module

from trainer.command import ON_A_CLUSTER, SUBCOMMANDS, operate, run_logs, run_removal

ON_A_RUN = {
    "logs": run_logs.parser,
    "scale": operate.scale_parser,
    "drain": operate.drain_parser,
    "delete": run_removal.parser,
}
"""Those that are for runs of this machine as well as for jobs on a cluster."""


def parsers_of(name: str) -> list[argparse.ArgumentParser]:
    """One, or two where the subcommand is for runs here and for a cluster: these come last."""
    from trainer.deploy import cli

    found = []
    if name in SUBCOMMANDS:
        found.append(import_module(f"trainer.command.{name}").parser())
    elif name in ON_A_RUN:
        found.append(ON_A_RUN[name]())
    if name in ON_A_CLUSTER or name == "status":
        found.append(cli.parser(name))
    return found


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """The flags that its help shows: long ones with hyphens, short ones, in their order."""
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    found = [flag for action in shown for flag in action.option_strings]
    return [flag for flag in found if "_" not in flag]


def subcommands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """By name; empty where it has none."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}
