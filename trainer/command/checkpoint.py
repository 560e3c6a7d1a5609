"""`remesh checkpoint`: list, show, verify, diff, export, import, prune."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from trainer.checkpoint import cli


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="remesh checkpoint", description=__doc__)
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(argv))
