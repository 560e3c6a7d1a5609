"""A user's function as what a rank does in every generation.

A step commits with the all-reduce before its optimizer's first `step`: whoever has its result
knows that every rank has whole gradients, and what follows in the step waits for nobody. A rank
that has its gradients but not the result is in doubt when the generation ends. It stays where it
is, in the middle of the user's step, takes its seat in the next generation, and asks the others.
If one of them is past the step, it goes on and ends the step as if nothing had happened;
otherwise it leaves the function, and the step is done anew. Either way the function is entered
again afterwards, and all survivors have one version.
"""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self, TypeVar

import torch

from trainer.errors import GenerationOver
from trainer.job import Job, load
from trainer.worker.custody import check_of
from trainer.worker.digest import whole_weights_sha256
from trainer.worker.ending import AgreedEnd, agree_on_the_end
from trainer.worker.environment import take_position
from trainer.worker.groups import local_device
from trainer.worker.inbox import Enter, Exit, Inbox
from trainer.worker.outcome import Finished, Left, Outcome
from trainer.worker.own.run import Run, report_step
from trainer.worker.own.state import OwnState
from trainer.worker.own.tally import Account, Tally, newest
from trainer.worker.placement import forget_placements
from trainer.worker.seat import Place, Seat, sit

log = logging.getLogger(__name__)
S = TypeVar("S", bound=Seat)


class OwnLoop:
    """The function, the state that this process brings along, and where it sits."""

    def __init__(self, function: Callable[[Run], object], job: Job, device: torch.device) -> None:
        self.job = job
        self.device = device
        self.state: OwnState | None = None
        self.made_by: Tally | None = None
        self.told: set[str] = set()
        """What this process has said to differ between ranks."""
        self.saved = False
        """Whether the steps of this generation came to their end with all saved, on all ranks."""
        self._function = function
        self._seat: Seat | None = None

    @classmethod
    def of(cls, function: Callable[[Run], object], order: Enter) -> Self:
        """Read the order's job. Raises JobError."""
        return cls(function, load(Path(order.job)), local_device(order.local_rank))

    @property
    def past(self) -> OwnState | None:
        """The state that this process brings along; one that is torn is of no use."""
        return None if self.state is None or self.state.torn else self.state

    @property
    def version(self) -> int:
        """Of that state."""
        return 0 if self.past is None else self.past.version

    @property
    def seat(self) -> Seat:
        """Where this process sits now: further on, once a step's fate had to be settled."""
        assert self._seat is not None
        return self._seat

    def enter(self, order: Enter, inbox: Inbox) -> Outcome:
        """Live through a generation, and through those in which a step's fate is settled."""
        take_position(order, range(order.world_size))
        seat = self._seat_of(order, inbox, Seat)
        while True:
            self._seat = seat
            outcome = sit(seat, self._call, lambda: self.version)
            if self._seat is seat:
                return outcome
            seat = self._seat

    def enter_once(self, order: Enter, inbox: Inbox, kind: type[S], *, saves: bool) -> S:
        """Call the function on a seat of this kind, whatever it raises; returns the seat."""
        seat = self._seat_of(order, inbox, kind)
        self._seat = seat
        seat.saves = saves
        with seat:
            self._call(seat)
        return seat

    def settle_fate(self, left: Left) -> Tally:
        """The generation ended while a step was in doubt: ask the survivors in the next one.

        Returns what the step came to. Raises GenerationOver when nobody is past it.
        """
        seat, inbox = self.seat, self.seat.inbox
        while True:
            seat.close()
            inbox.channel.send(left.message())
            order = inbox.next_order()
            if isinstance(order, Exit):
                inbox.put_back(order)
                raise GenerationOver(seat.generation, "the job is over")
            take_position(order, range(order.world_size))
            self._seat = seat = self._seat_of(order, inbox, Seat)
            try:
                found = self._roll_call(seat)
            except Exception as error:
                again = seat.left(error, self.version)
                if again is None:
                    raise
                left = again
                continue
            if found is None or found.version <= self.version or found.tally is None:
                raise GenerationOver(seat.generation, "the step was not agreed on")
            return found.tally

    def _seat_of(self, order: Enter, inbox: Inbox, kind: type[S]) -> S:
        place = Place(
            rank=order.rank,
            dims={"dp": order.world_size},
            text=f"dp {order.world_size}" if order.world_size > 1 else "one rank",
            speaks=order.local_rank == 0,
            nodes=order.nodes,
        )
        timeout = self.job.elastic.collective_timeout
        return kind(order, place, inbox, self.device, timeout=timeout)

    def _call(self, seat: Seat) -> Finished:
        if seat.is_open:
            # The end of the step was computed on the mesh of an earlier seat.
            forget_placements(self.device)
        else:
            self._roll_call(seat)
        seat.check()
        torch.manual_seed(self.job.run.seed)
        random.seed(self.job.run.seed)
        self.saved = False
        with ExitStack() as stack:
            self._function(Run(self, seat, stack))
        end = AgreedEnd(saved=False, digest=None)
        if self.state is not None:
            end = agree_on_the_end(seat.exchange, saved=self.saved, digest=self._sha256(seat))
        seat.check()
        return Finished(
            generation=seat.generation,
            status="completed",
            summary={
                "steps": self.version,
                "final_loss": None if self.made_by is None else self.made_by.loss,
                "weights_sha256": end.digest,
            },
            agreed=end.saved,
        )

    def _roll_call(self, seat: Seat) -> Account | None:
        """Open the seat and hear what the survivors know; collective."""
        seat.open()
        past = self.past
        mine = Account(
            version=0 if past is None else past.version,
            tally=None if past is None else self.made_by,
        )
        told = seat.exchange.all_gather(dataclasses.asdict(mine))
        accounts = [
            Account(**{**account, "tally": account["tally"] and Tally(**account["tally"])})
            for account in told
        ]
        found = newest(accounts)
        if found is not None and found.tally is not None and seat.place.speaks:
            # The node that would have written the step down may be the one that was lost.
            report_step(seat, found.version, found.tally, again=True)
        return found

    def _sha256(self, seat: Seat) -> str | None:
        if self.state is None:
            return None
        # A function that breaks out of its steps has compared nothing of the last one.
        check_of(seat, self.job, self.told).compare(self.state)
        return whole_weights_sha256(self.state.weights(), seat.exchange)
