"""`remesh render | validate | submit | logs | scale | drain | delete`, and status on a cluster.

`scale` and `drain` ask the cluster, or with `--endpoint` the rendezvous service itself.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(name: str, argv: Sequence[str]) -> int:
    """Returns the exit code. Raises JobError for what the user has to mend."""
    asks_the_service = any(word.partition("=")[0] == "--endpoint" for word in argv)
    if name in ("scale", "drain") and asks_the_service:
        from trainer.command import rendezvous

        return rendezvous.main([name, *argv])
    from trainer.deploy import cli

    return cli.main([name, *argv])
