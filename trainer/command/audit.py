"""`remesh audit`: whether a run's record proves that each sample was used exactly once.

Every step is counted once, with the whole batch and the schedule's learning rate; generations
only grow, and each went on from where the one before had got to; and the samples of the counted
steps, computed anew from the job, are all different within an epoch and in their order.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from trainer.command.parser import Parser
from trainer.telemetry.runs import named_run

EXIT_SOUND, EXIT_UNSOUND = 0, 1


def parser() -> argparse.ArgumentParser:
    """Takes one run."""
    made = Parser(
        prog="remesh audit",
        example="remesh audit quickstart",
        description="Show whether a run's record proves that each sample was used exactly once: "
        "every step is counted once, with the whole batch and the schedule's learning rate; "
        "generations only grow, and each went on from where the one before had got to; and the "
        "samples of the counted steps, computed anew from the job, are all different within an "
        "epoch and in their order.",
        codes="0 the record is sound, 1 it is not, 2 there is none",
    )
    made.add_argument("run", metavar="RUN", help="a run directory, or the id of a run in runs/")
    made.add_argument("--json", action="store_true", help="as one JSON object")
    return made


def main(argv: Sequence[str]) -> int:
    """Prints; 0 when the record is sound, 1 when it is not. Raises JobError for no record."""
    parsed = parser().parse_args(argv)
    root = named_run(parsed.run)
    from trainer.audit import audit, read_record

    found = audit(read_record(root))
    if parsed.json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        for check in found.checks:
            print(f"{check.status:<8}{check.name:<15}{check.text}")
            for problem in check.problems[1:]:
                print(f"{'':23}{problem}")
        print("the record is sound" if found.sound else "the record does not hold")
    return EXIT_SOUND if found.sound else EXIT_UNSOUND
