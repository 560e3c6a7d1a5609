"""The process groups of one generation: made, and dropped whole."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from trainer.address import split_endpoint
from trainer.worker.interrupt import Interruption

ATTEMPT = timedelta(seconds=2)


def local_device(local_rank: int) -> torch.device:
    """This rank's accelerator, or the CPU where there is none."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return torch.device("cpu")
    device = torch.device(accelerator.type, local_rank % torch.accelerator.device_count())
    torch.accelerator.set_device_index(device)
    return device


def generation_store(
    endpoint: str,
    listening_socket: int | None,
    timeout: timedelta,
    interruption: Interruption,
) -> Store:
    """Connect to the generation's store; serve it where a listening socket was handed to us.

    The agent listens before the generation is published, so no client ever dials too early and
    backs off. The generation is in the key prefix and never in a group's name: names are baked
    into compiled graphs, and a new one would miss the compile cache (pytorch #189330).
    """
    host, port = split_endpoint(endpoint)
    if listening_socket is not None:
        store = TCPStore(
            host,
            port,
            is_master=True,
            timeout=timeout,
            wait_for_workers=False,
            master_listen_fd=listening_socket,
        )
    else:
        store = _dial(host, port, timeout, interruption)
    return PrefixStore(f"generation/{interruption.generation}", store)


def _dial(host: str, port: int, timeout: timedelta, interruption: Interruption) -> TCPStore:
    """Try for `timeout`, in short attempts: one that finds nobody listening can't be interrupted.

    Who served the store may have died meanwhile.
    """
    deadline = time.monotonic() + timeout.total_seconds()
    while True:
        interruption.check()
        try:
            store = TCPStore(host, port, timeout=ATTEMPT, wait_for_workers=False)
        except (dist.DistNetworkError, dist.DistStoreError):
            if time.monotonic() > deadline:
                raise
            continue
        store.set_timeout(timeout)
        return store


def form_groups(
    endpoint: str,
    listening_socket: int | None,
    *,
    rank: int,
    dims: Mapping[str, int],
    device: torch.device,
    timeout: timedelta,
    interruption: Interruption,
) -> DeviceMesh:
    """Make the world and its mesh. Whatever is raised, `drop_groups` has to follow."""
    with interruption.forming_groups():
        store = generation_store(endpoint, listening_socket, timeout, interruption)
        dist.init_process_group(
            dist.get_default_backend_for_device(device),
            store=store,
            rank=rank,
            world_size=math.prod(dims.values()),
            timeout=timeout,
            device_id=device if device.type == "cuda" else None,
        )
        return init_device_mesh(device.type, tuple(dims.values()), mesh_dim_names=tuple(dims))


def drop_groups() -> None:
    """Take down the world and everything on it, where there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
    # torch names groups by counting them, and counts a world that failed to form. Whoever comes
    # out of one has to give the next the name that a fresh process gives it, or they never meet.
    dist.distributed_c10d._world.group_count = 0
