"""Fill a rank's tensors from one checkpoint, all ranks together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.manifest import Manifest
from trainer.checkpoint.mismatch import identity_fault, kind_fault, names_fault
from trainer.checkpoint.store import Store
from trainer.checkpoint.tensors import LocalTensor, in_place, put_bytes
from trainer.checkpoint.transfer import Wanted, read
from trainer.errors import CheckpointDamaged, CheckpointMismatch

JSON = Any


def load_manifest(
    exchange: Exchange,
    store: Store,
    manifest: Manifest,
    local: Mapping[str, LocalTensor],
    identity: Mapping[str, JSON] | None,
) -> str | None:
    """Collective. Read the checkpoint into place; returns what is damaged, the same on every rank.

    Raises CheckpointMismatch, on every rank, when it is another model's; nothing is read then.
    """
    fault = None if identity is None else identity_fault(manifest.identity, identity)
    kinds = {name: (item.dtype, item.shape) for name, item in local.items()}
    fault = fault or kind_fault(manifest, kinds)
    fault = _first(exchange.all_gather(fault)) or names_fault(_untaken(exchange, manifest, local))
    if fault is not None:
        raise CheckpointMismatch(
            f"checkpoint {manifest.attempt} in {store.url} does not fit: {fault}"
        )
    damage: str | None = None
    try:
        read_into(store, manifest, local)
    except (CheckpointDamaged, OSError) as error:
        damage = str(error)
    return _first(exchange.all_gather(damage))


def read_into(store: Store, manifest: Manifest, local: Mapping[str, LocalTensor]) -> None:
    """Read this rank's parts into place. Raises CheckpointDamaged."""
    wanted: list[Wanted] = []
    later: list[Callable[[], None]] = []
    for name, item in local.items():
        for part in item.parts:
            target = in_place(part.local)
            if target is None:
                target = np.empty(part.local.numel() * part.local.element_size(), dtype=np.uint8)
                later.append(_putter(part.local, target))
            wanted.append(Wanted(name, part.box, target))
    read(store, manifest, wanted)
    for put in later:
        put()


def _putter(view: torch.Tensor, data: np.ndarray[Any, Any]) -> Callable[[], None]:
    return lambda: put_bytes(view, data)


def _untaken(exchange: Exchange, manifest: Manifest, local: Mapping[str, LocalTensor]) -> list[str]:
    names = sorted(manifest.tensors)
    taken = torch.tensor([name in local for name in names], dtype=torch.uint8)
    return [
        name for name, seen in zip(names, exchange.any_set(taken).tolist(), strict=True) if not seen
    ]


def _first(faults: list[str | None]) -> str | None:
    return next((fault for fault in faults if fault is not None), None)
