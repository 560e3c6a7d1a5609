"""`remesh render | validate | submit | logs | scale | drain | delete`, and status on a cluster.

`logs`, `scale`, `drain` and `delete` are also for a run on this machine or file system: what they
name is looked for there first, unless a flag speaks of a cluster. With `--endpoint`, `scale` and
`drain` ask a rendezvous service.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainer.outside.numbers import BriefParser

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
    if name not in OF_A_RUN or not flags.isdisjoint(OF_A_CLUSTER):
        from trainer.deploy import cli

        return cli.main([name, *words])
    named = _named(words)
    if named is None or _is_a_run(named):
        # Without a name it is help, or the complaint that one is missing.
        return _on_a_run(name, words)
    return _on_a_cluster(name, words, named)


def _on_a_run(name: str, words: Sequence[str]) -> int:
    from trainer.command import operate, run_logs, run_removal

    match name:
        case "logs":
            return run_logs.main(words)
        case "delete":
            return run_removal.main(words)
        case _:
            return operate.main(name, words)


def _on_a_cluster(name: str, words: Sequence[str], named: str) -> int:
    """What was named is no run here; should no cluster know it either, that is what counts."""
    from trainer.deploy import cli
    from trainer.telemetry.runs import nearest_run

    code = cli.main([name, *words])
    if code:
        near = nearest_run(named)
        meant = f" (did you mean {near}?)" if near else ""
        told = f"no run here is called {named}{meant}, so a cluster was asked; `remesh runs` lists"
        print(f"remesh: {told} the runs of ./runs, and a path names any other", file=sys.stderr)
    return code


def _named(words: Sequence[str]) -> str | None:
    """The first word that no flag takes."""
    parser = BriefParser(add_help=False, allow_abbrev=False)
    for flag in FLAGS_WITH_VALUES:
        parser.add_argument(flag)
    parser.add_argument("named", nargs="?")
    named: str | None = parser.parse_known_args(words)[0].named
    return named


def _is_a_run(named: str) -> bool:
    from trainer.telemetry import find_run

    return find_run(named) is not None
