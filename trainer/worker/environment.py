"""This process's environment, made that of the rank it is in each generation.

Libraries ask it who they are (accelerate, Lightning's Fabric, a script's own guard), and one that
finds nothing there trains a model of its own on every rank.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise

from trainer.rank_environment import VARIABLES, RankPosition, rank_variables
from trainer.worker.inbox import Enter


def take_position(order: Enter, ranks: Sequence[int]) -> None:
    """Set torchrun's variables as the order says; what an earlier generation set is gone.

    `ranks`: those of the order's that make up the mesh, ascending. One that is not among them is
    nobody: it has none of the variables.
    """
    for name in VARIABLES:
        os.environ.pop(name, None)
    if order.rank in ranks:
        os.environ.update(
            rank_variables(
                position_in(order, ranks),
                run_id=order.message.get("execution", ""),
                max_restarts=order.message.get("max_restarts", 0),
                error_file=order.message.get("error_file", os.devnull),
                store_is_served=True,
            )
        )


def position_in(order: Enter, ranks: Sequence[int]) -> RankPosition:
    """Where this process is among `ranks`, and its node among the nodes that have any of them.

    As torch.distributed numbers the mesh: ranks that are spared are not counted. Pure.
    """
    ends = accumulate((slots for _node, slots, _host in order.members), initial=0)
    counts = [bisect_left(ranks, end) - bisect_left(ranks, first) for first, end in pairwise(ends)]
    return RankPosition(
        rank=bisect_left(ranks, order.rank),
        # Its device's number as well. A mesh takes the first ranks of a node.
        local_rank=order.local_rank,
        group_rank=sum(1 for count in counts[: order.group_rank] if count),
        world_size=len(ranks),
        local_world_size=counts[order.group_rank],
        group_world_size=sum(1 for count in counts if count),
        store=order.store,
        restarts=order.message.get("restarts", 0),
    )
