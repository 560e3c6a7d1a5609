"""Rendezvous for plain torchrun. Loaded by torch through the entry points `torchrun.handlers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters


def etcd_v3() -> Callable[[RendezvousParameters], RendezvousHandler]:
    """For --rdzv-backend=etcd-v3."""
    from rendezvous.torchrun.handler import create_handler

    return create_handler


def remesh() -> Callable[[RendezvousParameters], RendezvousHandler]:
    """For --rdzv-backend=remesh."""
    from rendezvous.torchrun.service_handler import create_handler

    return create_handler
