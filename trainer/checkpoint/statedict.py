"""Save and load anyone's state dict, with or without a job; see tree.py for what it may hold."""

from __future__ import annotations

import logging
import operator
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch.distributed as dist
from torch.distributed.tensor import DTensor

from trainer.checkpoint.checkpointer import Checkpointer
from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.keep import Keep
from trainer.checkpoint.mismatch import Allowance
from trainer.checkpoint.outcome import failure, raise_failure
from trainer.checkpoint.paths import is_of_rank
from trainer.checkpoint.rank_copies import Copies, differing, prints_of
from trainer.checkpoint.results import Commit, Loaded
from trainer.checkpoint.tree import Flat, Saved, State, flatten, missing_values, put_back
from trainer.errors import CheckpointError, CheckpointMismatch

JSON = Any
PLAIN = "plain"
SHOWN = 3
"""Names in a message."""
logger = logging.getLogger(__name__)


def save(
    directory: str | os.PathLike[str],
    state: Mapping[Any, Any],
    *,
    version: int = 0,
    identity: Mapping[str, JSON] | None = None,
    keep: Keep | None = None,
    group: dist.ProcessGroup | None = None,
    storage_options: Mapping[str, JSON] | None = None,
) -> Commit:
    """Save a state dict. Collective where torch.distributed is initialized.

    `state` nests dicts, lists and tuples of tensors, DTensors, numpy arrays, and plain values:
    None, bool, int, float, str, bytes, numpy's scalars, and lists, tuples, deques and dicts of
    these. A plain tensor or value counts as the same on every rank that has it: where it is not,
    the lowest rank's is saved, and a warning names it; what each rank is to have of its own goes
    into a `PerRank`. `version` says how far the training is.

    Raises, on every rank: CheckpointError for what has no place in a checkpoint on any of them,
    and what `Checkpointer.save` raises.
    """
    exchange = _exchange(group)
    flat, copies, fault = Flat(), Copies(), None
    try:
        version = _version(version)
        flat = flatten(state, rank=exchange.rank)
        copies = _copies(flat)
    except CheckpointError as error:
        fault = failure(error)
    rows = exchange.all_gather([fault, copies.digest])
    for row in rows:
        raise_failure(row[0])
    if len({row[1] for row in rows}) > 1:
        flat = _lowest_ranks(flat, copies, exchange)
    merged: dict[str, JSON] = {}
    for of_rank in reversed(exchange.gather(flat.values) or []):
        merged |= of_rank
    checkpointer = _checkpointer(directory, exchange, group, identity, keep, storage_options)
    return checkpointer.save(version, flat.tensors, {PLAIN: merged})


def load(
    directory: str | os.PathLike[str],
    state: State,
    *,
    version: int | None = None,
    identity: Mapping[str, JSON] | None = None,
    strict: bool = True,
    group: dist.ProcessGroup | None = None,
    storage_options: Mapping[str, JSON] | None = None,
) -> Loaded | None:
    """Load the newest whole checkpoint, or that of a version, into a state dict of its shape.

    Tensors are filled in place, in whatever mesh they are now; plain values are put where they
    were, and a dict of plain values gets back all that it had. Without `strict`, what only one of
    the two has is left alone: so a part can be loaded, the model alone say, or all but a new head.
    Collective as `save`. None when there is no checkpoint.

    Raises, on every rank: CheckpointMismatch when the state is not of the saved one's names and
    shapes; CheckpointError for a tensor that can't be filled; what `Checkpointer.load` raises.
    """
    exchange = _exchange(group)
    flat, fault = Flat(), None
    try:
        version = None if version is None else _version(version)
        flat = flatten(state, rank=exchange.rank, fill=True)
    except CheckpointError as error:
        fault = failure(error)
    for row in exchange.all_gather(fault):
        raise_failure(row)
    checkpointer = _checkpointer(
        directory, exchange, group, identity, None, storage_options, read_only=True
    )
    loaded = checkpointer.load(flat.tensors, version=version, allowance=Allowance(strict=strict))
    if loaded is None:
        return None
    saved = Saved(loaded.values.get(PLAIN, {}))
    missing = missing_values(state, saved, rank=exchange.rank)
    needed = [name for name in missing if strict and not is_of_rank(name)]
    if needed:
        raise CheckpointMismatch(f"{loaded.path} has no value {needed[0]!r}")
    for bring in flat.afterwards:
        bring()
    put_back(state, saved, rank=exchange.rank)
    return replace(loaded, missing=(*loaded.missing, *missing))


def _version(version: Any) -> int:
    """As an int. numpy's integers are some; a bool is most likely a mistake."""
    if not isinstance(version, bool):
        try:
            number = operator.index(version)
        except TypeError:
            number = -1
        if number >= 0:
            return number
    raise CheckpointError(f"a version is a whole number from 0 on, and not {version!r}")


def _copies(flat: Flat) -> Copies:
    """What counts as the same on every rank that has it."""
    tensors = {
        name: tensor
        for name, tensor in flat.tensors.items()
        if not isinstance(tensor, DTensor) and not is_of_rank(name)
    }
    values = {name: value for name, value in flat.values.items() if not is_of_rank(name)}
    return prints_of(tensors, values)


def _lowest_ranks(flat: Flat, copies: Copies, exchange: Exchange) -> Flat:
    """Without those that a lower rank has otherwise; collective."""
    found = differing(exchange.all_gather(copies.prints))
    if found and exchange.rank == 0:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        logger.warning(
            "%s%s: not the same on all ranks that have it; the lowest rank's is saved. "
            "What each rank has of its own goes into a checkpoint.PerRank",
            ", ".join(repr(name) for name in sorted(found)[:SHOWN]),
            more,
        )
    return Flat(
        tensors={
            name: tensor
            for name, tensor in flat.tensors.items()
            if found.get(name, exchange.rank) == exchange.rank
        },
        values=flat.values,
    )


def _exchange(group: dist.ProcessGroup | None) -> Exchange:
    if dist.is_available() and dist.is_initialized():
        return Exchange(dist.get_rank(group), dist.get_world_size(group), group)
    return Exchange(0, 1, None)


def _checkpointer(
    directory: str | os.PathLike[str],
    exchange: Exchange,
    group: dist.ProcessGroup | None,
    identity: Mapping[str, JSON] | None,
    keep: Keep | None,
    storage_options: Mapping[str, JSON] | None,
    *,
    read_only: bool = False,
) -> Checkpointer:
    return Checkpointer(
        directory,
        identity=identity,
        rank=exchange.rank,
        world_size=exchange.world_size,
        generation=0,
        group=group,
        keep=keep,
        storage_options=storage_options,
        read_only=read_only,
    )
