"""`remesh rendezvous`: serve, status, and an operator's wishes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rendezvous.service import cli


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="remesh rendezvous", description=__doc__)
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(argv))
