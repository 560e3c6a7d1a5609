"""The store of one round: a TCPStore on its own socket, which listens before the round begins."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed.elastic.rendezvous import RendezvousInfo, RendezvousStoreInfo

from rendezvous.address import join_endpoint, listening_place, split_endpoint


@dataclass(frozen=True, slots=True)
class Served:
    """A store that this process serves, and where (host:port)."""

    endpoint: str
    store: TCPStore


def listen(address: str) -> socket.socket:
    """On a free port of this machine's `address`, and nowhere else where that is its own.

    Raises OSError.
    """
    family, place = listening_place(address, 0)
    try:
        return socket.create_server(place, family=family)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
    # --local-addr may name what stands before this machine: a service, a router.
    return socket.create_server(("", 0), family=family)


def serve(address: str, *, timeout: float) -> Served:
    """On a free port; `address` is this machine's. Raises what `open_store` does, and OSError."""
    with listen(address) as listener:
        endpoint = join_endpoint(address, listener.getsockname()[1])
        return Served(endpoint, open_store(endpoint, listener, timeout=timeout))


def open_store(endpoint: str, listener: socket.socket | None, *, timeout: float) -> TCPStore:
    """Serves it on `listener`, if there is one. Raises DistError or RuntimeError when it can't be
    reached within `timeout` seconds."""
    host, port = split_endpoint(endpoint)
    return TCPStore(
        host,
        port,
        is_master=listener is not None,
        master_listen_fd=listener.detach() if listener else None,
        timeout=timedelta(seconds=timeout),
    )


def agent_store_is_shared() -> bool:
    """Whether the workers use the agents' store, or make one of their own."""
    return os.environ.get("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "0") != "1"


def inform(store: TCPStore, *, round: int, rank: int, world: int, address: str) -> RendezvousInfo:
    """What torchrun's agent is handed. `rank` counts agents; `address` is this one's."""
    own = PrefixStore(f"torchrun/{round}", store)
    if agent_store_is_shared():
        bootstrap = RendezvousStoreInfo(store.host, store.port)
    else:
        bootstrap = RendezvousStoreInfo.build(rank, own, address)
    return RendezvousInfo(own, rank, world, bootstrap)
