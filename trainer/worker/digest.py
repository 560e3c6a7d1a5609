"""One hash over the whole model, the same for every mesh."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from trainer.checkpoint.exchange import Exchange
from trainer.worker.build import Training


def weights_sha256(training: Training, exchange: Exchange) -> str:
    """SHA-256 over name, dtype, shape and bytes of each full parameter and persistent buffer.

    In the order of names. Collective over the world. One tensor is whole at a time; the hash is
    known on global rank 0, and is empty elsewhere. Returns once every rank's part is known to have
    been whole.
    """
    own = training.state.weights()
    rank = exchange.rank
    hasher = hashlib.sha256()
    for name, owner, dtype, shape in _inventory(own, training, exchange):
        full = _whole(own[name]) if name in own else None
        if owner != 0:
            full = _to_rank_zero(full, owner, rank, dtype, shape, training.device)
        if rank == 0:
            assert full is not None
            _add(hasher, name, full)
        # One by one, so that nobody waits for longer than one tensor takes rank 0.
        exchange.confirm()
    return hasher.hexdigest() if rank == 0 else ""


def whole_weights_sha256(weights: Mapping[str, Tensor], exchange: Exchange) -> str | None:
    """The same hash, of tensors that every rank has a part of; None where that is not so.

    Collective over the world. It is known on global rank 0, and is empty elsewhere.
    """
    names = sorted(weights)
    listed = hashlib.sha256("\0".join(names).encode()).hexdigest()
    if len(set(exchange.all_gather(listed))) > 1:
        return None
    hasher = hashlib.sha256()
    for name in names:
        full = _whole(weights[name].detach())
        if exchange.rank == 0:
            _add(hasher, name, full)
    exchange.confirm()
    return hasher.hexdigest() if exchange.rank == 0 else ""


def _add(hasher: hashlib._Hash, name: str, full: Tensor) -> None:
    data = full.contiguous().cpu()
    hasher.update(f"{name}\0{full.dtype}\0{tuple(full.shape)}\0".encode())
    hasher.update(data.reshape(-1).view(torch.uint8).numpy().data)


def _inventory(
    own: dict[str, Tensor], training: Training, exchange: Exchange
) -> list[tuple[str, int, str, tuple[int, ...]]]:
    """(name, the first rank that holds it, dtype, shape) of every tensor, in name order."""
    rank = exchange.rank
    coordinate = training.mesh.get_coordinate()
    assert coordinate is not None
    mine = (
        [(name, rank, str(value.dtype), list(value.shape)) for name, value in own.items()]
        if not any(coordinate[1:])
        else []
    )
    everything = exchange.all_gather(mine)
    found: dict[str, tuple[str, int, str, tuple[int, ...]]] = {}
    for name, owner, dtype, shape in (row for rows in everything for row in rows):
        # Several stages may have a buffer of one name; they have one value, and it counts once.
        found.setdefault(name, (name, owner, dtype, tuple(shape)))
    return [found[name] for name in sorted(found)]


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _to_rank_zero(
    value: Tensor | None,
    owner: int,
    rank: int,
    dtype: str,
    shape: tuple[int, ...],
    device: torch.device,
) -> Tensor | None:
    """`owner` sends its tensor to rank 0; nobody else takes part."""
    if rank == owner:
        assert value is not None
        dist.send(value.contiguous(), dst=0)
    elif rank == 0:
        received = torch.empty(
            shape, dtype=getattr(torch, dtype.removeprefix("torch.")), device=device
        )
        dist.recv(received, src=owner)
        return received
    return None
