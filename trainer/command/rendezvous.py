"""`remesh rendezvous`: serve, status, and an operator's wishes."""

from __future__ import annotations

from collections.abc import Sequence

from rendezvous.service import cli
from trainer.command.parser import Parser


def parser() -> Parser:
    """Takes one of its own subcommands."""
    made = Parser(
        prog="remesh rendezvous",
        example="remesh rendezvous serve --store memory --listen 127.0.0.1:29400",
        description="The rendezvous service: run it, look at it, ask things of it.",
    )
    cli.add_arguments(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    return cli.run(parser().parse_args(argv))
