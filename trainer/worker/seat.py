"""A rank's seat in one generation: its groups, its line to the agent, and the way out."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from trainer.checkpoint.exchange import Exchange
from trainer.errors import GenerationOver
from trainer.worker.ballot import Wish
from trainer.worker.groups import drop_groups, form_groups
from trainer.worker.inbox import Enter, Inbox
from trainer.worker.interrupt import Interruption
from trainer.worker.outcome import Finished, Left, lost_contact
from trainer.worker.placement import THIS_PROCESS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A rank's place in the mesh. `dims` are the mesh's sizes by name, outermost first.

    `speaks`: it is the one rank of its node that tells the agent what a step came to. `nodes` has
    the node of each rank of the mesh.
    """

    rank: int
    dims: Mapping[str, int]
    text: str
    speaks: bool
    nodes: Sequence[str]

    @property
    def size(self) -> int:
        """Number of ranks in the mesh."""
        return math.prod(self.dims.values())


class Seat:
    """Taken with `open`, given up with `close`, whatever happens between.

    `mesh` and `exchange` are there once it is open. `saves`: checkpoints may be made here.
    """

    mesh: DeviceMesh
    exchange: Exchange

    def __init__(
        self, order: Enter, place: Place, inbox: Inbox, device: torch.device, *, timeout: float
    ) -> None:
        self.order = order
        self.place = place
        self.rank = place.rank
        self.size = place.size
        self.device = device
        self.generation: int = order.generation
        self.interruption = Interruption(order.generation)
        self.inbox = inbox
        self._timeout = timedelta(seconds=timeout)
        self._began = time.perf_counter()
        self._marks: dict[str, float] = {}
        self._waits = 0
        self.is_open = False
        self.saves = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Form the groups. From now on the agent's interrupts strike here."""
        self._began = time.perf_counter()
        self.is_open = True
        THIS_PROCESS.move_to(self.rank, self.place.dims, self.device)
        self.inbox.attach(self.interruption)
        self.mesh = form_groups(
            self.order.store,
            self.order.store_socket,
            rank=self.rank,
            dims=self.place.dims,
            device=self.device,
            timeout=self._timeout,
            interruption=self.interruption,
        )
        self.inbox.all_met()
        self.exchange = Exchange(self.rank, self.size, self.group, stands=self.check)
        self.mark("groups")

    def close(self) -> None:
        """Drop the groups whole. Closing twice does nothing."""
        if not self.is_open:
            return
        self.is_open = False
        self.interruption.hold()
        drop_groups()
        self.inbox.detach()
        gc.collect()

    def mark(self, phase: str) -> None:
        """The phase that went on since the last mark is over; see `tell_entered`."""
        self._marks[phase] = time.perf_counter() - self._began - sum(self._marks.values())

    def check(self) -> None:
        """Raise GenerationOver if the generation has ended."""
        self.interruption.check()

    def left(self, error: Exception, version: int) -> Left | None:
        """The end of the generation that `error` tells of; None for an error of another kind."""
        # Once the generation is over its sockets are cut, and anything may come of that.
        stopped = error.stopped if isinstance(error, GenerationOver) else ""
        over_because = self.interruption.reason
        if over_because is not None:
            reason, detail = "interrupted", over_because
        elif isinstance(error, GenerationOver):
            reason, detail = "boundary", error.reason
        elif lost_contact(error):
            reason, detail = "lost contact", str(error)
        else:
            return None
        return Left(
            generation=self.generation,
            version=version,
            reason=reason,
            detail=detail,
            stopped=stopped,
        )

    def wish(self) -> Wish:
        """What the agent has asked for at the next step boundary."""
        return self.inbox.wish(self.generation)

    def leave_reason(self) -> str:
        """Why this generation ends at a step boundary."""
        return self.inbox.leave_reason(self.generation) or "another rank was asked to leave"

    def all_leave(self) -> GenerationOver:
        """Why every rank leaves at this boundary, once all have saved; collective.

        Whoever was asked tells the others: their agents may hear of it from nobody else.
        """
        asked = self.inbox.leave_reason(self.generation) or ""
        told = self.exchange.all_gather([asked, self.inbox.stop_reason(self.generation)])
        reason = next((reason for reason, _ in told if reason), "")
        stopped = next((stop for _, stop in told if stop), "")
        return GenerationOver(self.generation, reason, stopped=stopped)

    def say(self, kind: str, **fields: Any) -> None:
        """Tell the agent."""
        self.inbox.channel.send({"type": kind, "generation": self.generation} | fields)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Within, this rank waits for storage: let the agent not take that for a hang."""
        self._waits += 1
        if self._waits == 1:
            self.say("waiting", on=True)
        try:
            yield
        finally:
            self._waits -= 1
            if self._waits == 0:
                self.say("waiting", on=False)

    def tell_entered(self, version: int, source: str) -> None:
        """Tell the agent that training goes on from `version`, and what the way here took."""
        self.say(
            "entered",
            mesh=self.place.text,
            version=version,
            source=source,
            seconds=self._marks,
        )

    @property
    def group(self) -> dist.ProcessGroup:
        """All ranks of the mesh."""
        group = dist.group.WORLD
        assert group is not None
        return group

    @property
    def staging(self) -> Path | None:
        """This node's directory in shared memory, where its agent has made one."""
        directory = self.order.message.get("staging")
        return Path(directory) if directory else None


def sit(seat: Seat, run: Callable[[Seat], Finished], version: Callable[[], int]) -> Finished | Left:
    """Live through one generation. Raises what is wrong with the job or the code itself.

    `version` is of the state that this process would bring along.
    """
    log.info(
        "rank %d enters generation %d (%s): %s",
        seat.rank,
        seat.generation,
        seat.place.text,
        seat.order.reason,
    )
    with seat:
        try:
            return run(seat)
        except Exception as error:
            left = seat.left(error, version())
            if left is None:
                raise
            return left
