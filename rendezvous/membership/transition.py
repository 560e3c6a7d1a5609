"""The transition function."""

from __future__ import annotations

from rendezvous.generation import Generation
from rendezvous.membership.effects import Effect
from rendezvous.membership.events import Event
from rendezvous.membership.record import Ended, Record
from rendezvous.membership.view import JobView


class Membership:
    """One job's membership. The same events at the same times give the same effects."""

    @property
    def generation(self) -> Generation | None:
        """The last generation published."""
        raise NotImplementedError

    @property
    def ended(self) -> Ended | None:
        """How the job ended, None while it lives."""
        raise NotImplementedError

    @property
    def record(self) -> Record | None:
        """What the store should hold; None before the first join."""
        raise NotImplementedError

    def step(self, event: Event, now: float) -> tuple[Effect, ...]:
        """Takes in one event and returns what must be done, in order."""
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """When to call with `Tick` at the latest if nothing happens before; None: never."""
        raise NotImplementedError

    def view(self, now: float) -> JobView:
        """What `status` shows."""
        raise NotImplementedError
