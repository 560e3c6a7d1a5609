"""`remesh render | validate | submit | logs | scale | drain | delete`, and status on a cluster.

`scale` and `drain` are also for a run on this machine or file system: what they name is looked for
there first, unless a flag speaks of a cluster. With `--endpoint` they ask a rendezvous service.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

OF_A_CLUSTER = ("--cluster", "--namespace", "-n", "--context")


def main(name: str, argv: Sequence[str]) -> int:
    """Returns the exit code. Raises JobError for what the user has to mend."""
    words = [word for word in argv if word != "--cluster"]
    if name in ("scale", "drain"):
        flags = {word.partition("=")[0] for word in argv}
        if "--endpoint" in flags:
            from trainer.command import rendezvous

            return rendezvous.main([name, *words])
        if flags.isdisjoint(OF_A_CLUSTER) and _names_a_run(words):
            from trainer.command import operate

            return operate.main(name, words)
    from trainer.deploy import cli

    return cli.main([name, *words])


def _names_a_run(words: Sequence[str]) -> bool:
    """Whether the first word that no flag takes is a run of this machine."""
    from trainer.telemetry import find_run

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--nodes", "--node", "--grace", "--reason", "--timeout"):
        parser.add_argument(flag)
    parser.add_argument("named", nargs="?")
    named = parser.parse_known_args(words)[0].named
    return named is not None and find_run(named) is not None
