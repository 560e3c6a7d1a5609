"""`remesh plan`: the mesh that a job would have, what it costs, and what a lost node would move."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from trainer.command.slots import worker_count
from trainer.errors import JobError


def main(argv: Sequence[str]) -> int:
    """Prints a line each; nothing is started. Raises JobError when no mesh fits."""
    parser = argparse.ArgumentParser(prog="remesh plan", description=__doc__)
    parser.add_argument("job", metavar="JOB.yaml")
    parser.add_argument("--nodes", "--nnodes", type=int, metavar="N", help="number of nodes")
    parser.add_argument("--nproc-per-node", "--nproc_per_node", metavar="N", help="ranks of a node")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    parser.add_argument(
        "--without", metavar="NODE", help="what follows from the loss of this node (node0, …)"
    )
    parsed = parser.parse_args(argv)
    from trainer.job import load
    from trainer.mesh import NodeSlots, rows

    job = load(parsed.job, parsed.set)
    if not job.trains:
        raise JobError(f"{parsed.job} starts a program of your own; only a model has a mesh")
    slots = worker_count(parsed.nproc_per_node or str(job.elastic.nproc_per_node))
    count = parsed.nodes if parsed.nodes is not None else job.elastic.max_nodes
    if count < 1:
        raise JobError(f"--nodes is {count}; give at least 1")
    nodes = [NodeSlots(node=f"node{i}", slots=slots) for i in range(count)]
    shown = rows(job, nodes, without=parsed.without)
    width = max(len(label) for label, _text in shown)
    for label, text in shown:
        print(f"{label:<{width}}  {text}")
    return 0
