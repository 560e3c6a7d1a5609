"""The values that a factory gives a model are compared before training begins with them.

Each rank calls the factory by itself and takes its shards from what it gets. So where the factory
is not the same function on every rank, a sharded model is put together from parts of several, and
no two ranks hold anything that could be compared later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.fingerprint import digest_of, fingerprint
from trainer.errors import ReplicasDiffer
from trainer.models.init import InitRule
from trainer.worker.replicas.held import difference, differing

REMEDY = (
    "model.factory has to build the same model on every rank; does it depend on the rank, the "
    "clock, or a generator of its own?"
)


def compare_first_values(
    rule: Callable[[str], InitRule], names: Iterable[str], exchange: Exchange
) -> None:
    """Collective. `rule` says how the parameter of a name begins. Raises ReplicasDiffer."""
    if exchange.world_size == 1:
        return
    given = {name: whole for name in names if (whole := rule(name).given) is not None}
    prints = {name: fingerprint([value()]) for name, value in given.items()}
    # Ranks of one pipeline stage have the same names.
    stage = digest_of(list(prints))
    if not differing(exchange.all_gather({stage: digest_of(prints)})):
        return
    rows = exchange.all_gather([stage, prints])
    for each in dict.fromkeys(row[0] for row in rows):
        of_stage = [row[1] if row[0] == each else None for row in rows]
        if found := difference(of_stage, group=each, loose=False):
            raise ReplicasDiffer(
                f"{found.shown} begins otherwise on rank {found.other} than on rank {found.rank}: "
                f"{REMEDY}"
            )
