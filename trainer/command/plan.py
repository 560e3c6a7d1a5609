"""`remesh plan`: the mesh that a job would have, what it costs, and what a lost node would move.

Of a run that goes on, it shows the plans that its agents have made for the loss of a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.command.parser import Parser
from trainer.command.slots import worker_count
from trainer.errors import JobError
from trainer.job.elastic import MAX_RANKS
from trainer.outside.echo import cut
from trainer.outside.numbers import whole_flag
from trainer.outside.shapes import ANY
from trainer.telemetry import RunDirectory, find_run
from trainer.telemetry.files import read_document

if TYPE_CHECKING:
    from trainer.mesh import Losses


def parser() -> Parser:
    """Takes what `main` needs."""
    made = Parser(
        prog="remesh plan",
        example="remesh plan job.yaml --nodes 8 --nproc-per-node 8",
        description="Show the mesh that a job would have, what it costs, and what a lost node "
        "would move; nothing is started. Of a run that goes on, show the plans that its agents "
        "have made for the loss of a node.",
    )
    made.add_argument("job", metavar="JOB.yaml | RUN", help="a job file, or a run (or its id)")
    made.add_argument("--nodes", "--nnodes", type=whole_flag(), metavar="N", help="number of nodes")
    made.add_argument("--nproc-per-node", "--nproc_per_node", metavar="N", help="ranks of a node")
    made.add_argument("--set", action="append", default=[], metavar="A.B=C")
    made.add_argument(
        "--without", metavar="NODE", help="what follows from the loss of this node (node0, …)"
    )
    return made


def main(argv: Sequence[str]) -> int:
    """Prints a line each; nothing is started. Raises JobError when no mesh fits."""
    parsed = parser().parse_args(argv)
    root = None if Path(parsed.job).is_file() else find_run(parsed.job)
    if root is not None:
        return _of_a_run(root, parsed.without)
    from trainer.job import load
    from trainer.mesh import NodeSlots, rows

    job = load(parsed.job, parsed.set)
    if not job.trains:
        raise JobError(f"{parsed.job} starts a program of your own; only a model has a mesh")
    slots = worker_count(parsed.nproc_per_node or str(job.elastic.nproc_per_node))
    count = parsed.nodes if parsed.nodes is not None else job.elastic.max_nodes
    if count < 1:
        raise JobError(f"--nodes is {count}; give at least 1")
    if count * slots > MAX_RANKS:
        raise JobError(
            f"{count} nodes of {slots} ranks are {count * slots} ranks; at most {MAX_RANKS} have "
            "a mesh"
        )
    nodes = [NodeSlots(node=f"node{i}", slots=slots) for i in range(count)]
    _show(rows(job, nodes, without=parsed.without))
    return 0


def _of_a_run(root: Path, without: str | None) -> int:
    """The plans that the run has made itself. Raises JobError where it has none yet."""
    from trainer.mesh import loss_rows

    kept = read_losses(root)
    if kept is None:
        raise JobError(
            f"{root} holds no plans.json: it is written some time after a generation runs"
        )
    plans = [loss for loss in kept.without if without in (None, loss.node)]
    if not plans:
        names = ", ".join(loss.node for loss in kept.without)
        raise JobError(
            f"no node of generation {kept.generation} is called {cut(str(without))}: {names}"
        )
    print(f"generation {kept.generation}")
    for plan in plans:
        print()
        _show(loss_rows(plan))
    return 0


def read_losses(root: Path) -> Losses | None:
    """The plans that a run's agents keep; None before they are made. Raises JobError."""
    from trainer.mesh import Losses

    path = RunDirectory(root).plans
    try:
        value = read_document(path, ANY)
        return None if value is None else Losses.read(value, str(path))
    except ValueError as error:
        raise JobError(str(error)) from None


def _show(shown: Sequence[tuple[str, str]]) -> None:
    width = max(len(label) for label, _text in shown)
    for label, text in shown:
        print(f"{label:<{width}}  {text}")
