"""`remesh render | validate | submit | logs | scale | drain | delete`, and status on a cluster.

`logs`, `scale`, `drain` and `delete` are also for a run on this machine or file system: what they
name is looked for there first, unless a flag speaks of a cluster. With `--endpoint`, `scale` and
`drain` ask a rendezvous service.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

FLAGS_WITH_VALUES = (
    "--nodes",
    "--node",
    "--grace",
    "--reason",
    "--timeout",
    "--rank",
    "--generation",
    "--tail",
)
"""Of all these commands: the word after one of them is no run's name."""
OF_A_RUN = ("logs", "scale", "drain", "delete")
OF_A_CLUSTER = ("--cluster", "--namespace", "-n", "--context")


def main(name: str, argv: Sequence[str]) -> int:
    """Returns the exit code. Raises JobError for what the user has to mend."""
    words = [word for word in argv if word != "--cluster"]
    flags = {word.partition("=")[0] for word in argv}
    if name in ("scale", "drain") and "--endpoint" in flags:
        from trainer.command import rendezvous

        return rendezvous.main([name, *words])
    if name in OF_A_RUN and flags.isdisjoint(OF_A_CLUSTER) and _names_a_run(words):
        return _on_a_run(name, words)
    from trainer.deploy import cli

    return cli.main([name, *words])


def _on_a_run(name: str, words: Sequence[str]) -> int:
    from trainer.command import operate, run_logs, run_removal

    match name:
        case "logs":
            return run_logs.main(words)
        case "delete":
            return run_removal.main(words)
        case _:
            return operate.main(name, words)


def _names_a_run(words: Sequence[str]) -> bool:
    """Whether the first word that no flag takes is a run of this machine."""
    from trainer.telemetry import find_run
    from trainer.telemetry.runs import nearest_run

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in FLAGS_WITH_VALUES:
        parser.add_argument(flag)
    parser.add_argument("named", nargs="?")
    named = parser.parse_known_args(words)[0].named
    if named is None:
        return False
    if find_run(named) is not None:
        return True
    if near := nearest_run(named):
        told = f"no run here is called {named} (did you mean {near}?), so a cluster is asked"
        print(f"remesh: {told}", file=sys.stderr)
    return False
