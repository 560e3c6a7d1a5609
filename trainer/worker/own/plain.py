"""A user's loop without Remesh: one generation, from torchrun's environment or alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import init_device_mesh

from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.unsaved import SaveLedger, Unsaved, account
from trainer.errors import CheckpointError
from trainer.job import Job, from_mapping
from trainer.worker.ballot import Wish
from trainer.worker.groups import local_device
from trainer.worker.inbox import Enter, Inbox
from trainer.worker.outcome import Left
from trainer.worker.own.program import OwnLoop
from trainer.worker.own.run import Run
from trainer.worker.seat import Seat


class NoAgent(Inbox):
    """Stands where the line to an agent would be."""

    def __init__(self) -> None:
        pass

    def attach(self, interruption: Any) -> None:
        """Nobody will interrupt."""

    def detach(self) -> None:
        """Nobody could have."""

    def wish(self, generation: int) -> Wish:
        """Nobody asks for anything."""
        return Wish()

    def stop_reason(self, generation: int) -> str:
        """Nobody stops it."""
        return ""


class PlainSeat(Seat):
    """The only generation there is. What breaks it is an error like any other."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ledger = SaveLedger()
        """What became of the checkpoints, where an agent would keep that in mind."""

    def open(self) -> None:
        """Form the groups as torch does."""
        self.is_open = True
        backend = dist.get_default_backend_for_device(self.device)
        if "RANK" in os.environ:
            dist.init_process_group(backend)
        else:
            dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
        self.mesh = init_device_mesh(
            self.device.type, (self.size,), mesh_dim_names=tuple(self.place.dims)
        )
        self.exchange = Exchange(self.rank, self.size, self.group, stands=self.check)

    def left(self, error: Exception, version: int) -> Left | None:
        """There is no other generation to go on in."""
        return None

    def say(self, kind: str, **fields: Any) -> None:
        """Nobody listens, but that the end depends on what is saved."""
        if kind == "saved":
            self.ledger.saved(fields["version"], self.generation)
        elif kind == "unsaved":
            self.ledger.failed(Unsaved(generation=self.generation, **fields))


def run_plainly(function: Callable[[Run], object], *, checkpoints: str | None, every: int) -> None:
    """Call the function once. `checkpoints`: a directory to resume from and to save into.

    Raises CheckpointError, once the function has returned, where the last checkpoint has failed.
    """
    order = _order()
    loop = OwnLoop(function, _job(checkpoints, every), local_device(order.local_rank))
    seat = loop.enter_once(order, NoAgent(), PlainSeat, saves=checkpoints is not None)
    if seat.ledger.unsaved is not None:
        raise CheckpointError(account(seat.ledger.unsaved))


def _job(checkpoints: str | None, every: int) -> Job:
    described: dict[str, Any] = {
        "entrypoint": {"script": sys.argv[0] or "-", "elastic": True},
        "elastic": {"mirror_every": 0},
        "checkpoint": {"every": every if checkpoints else 0, "at_end": checkpoints is not None},
    }
    if checkpoints is not None:
        described["checkpoint"]["directory"] = checkpoints
    return from_mapping(described)


def _order() -> Enter:
    def number(name: str, default: int) -> int:
        return int(os.environ.get(name, default))

    size = number("WORLD_SIZE", 1)
    return Enter(
        {
            "generation": 1,
            "rank": number("RANK", 0),
            "local_rank": number("LOCAL_RANK", 0),
            "local_world_size": number("LOCAL_WORLD_SIZE", size),
            "group_rank": 0,
            "world_size": size,
            "members": [["", size, ""]],
            "reason": "",
            "run_directory": "",
        },
        None,
    )
