"""`remesh checkpoint`: list, show, verify, diff, export, import, prune."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.checkpoint import cli
from trainer.command.parser import Parser


def parser() -> Parser:
    """Takes one of its own subcommands."""
    made = Parser(
        prog="remesh checkpoint",
        example="remesh checkpoint list runs/quickstart",
        description="List, show, verify, compare, export, import and prune checkpoints.",
    )
    cli.add_arguments(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    return cli.run(parser().parse_args(argv))
