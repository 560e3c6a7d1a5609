"""Every waiting time of the control plane, in one object whose order is checked.

What a *job* may choose (how long a silent node is believed in, how long more nodes are awaited)
is in its `JobSpec`; here is what agents and services need beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from rendezvous.errors import ConfigurationError
from rendezvous.membership.spec import JobSpec

JOIN_COST = 0.002
"""Seconds that one join may take of a busy service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """All in seconds. Raises ConfigurationError, naming the pair, when two are out of order."""

    retry_first: float = 0.02
    """Before a session tries again the first time; it doubles from there, with jitter."""
    retry_most: float = 0.5
    """The longest a session waits between two attempts."""
    pulse: float = 1.0
    """The service says something to each agent at least this often."""
    answer: float = 2.0
    """How long a session waits for a connection and for the answer to its join."""
    silence: float = 3.0
    """A session that has heard nothing for this long looks for another service."""
    lease: float = 4.0
    """A leader that could not renew its lease in the store for this long leads no more; it tries
    three times within it. etcd's shortest is 2."""
    shutdown: float = 2.0
    """How long a service or session that stops waits for what is still on its way."""
    last_word: float = 10.0
    """How long a node that is done waits for a service to say that the job is over; after that it
    ends by itself. A leader that is killed has a successor in `lease`, whom a session that hears
    nothing finds in `silence`, and asks for `answer`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ConfigurationError(f"timeouts: {field.name} must be more than 0 s")
        self._ordered("retry_first", "retry_most")
        self._ordered("retry_most", "answer")
        self._ordered("pulse", "silence", factor=2)
        self._ordered("answer", "silence")
        self._ordered("silence", "lease")
        self._ordered("silence", "last_word")

    def _ordered(self, short: str, long: str, factor: float = 1) -> None:
        if getattr(self, short) * factor > getattr(self, long):
            times = f"{factor:g} × " if factor != 1 else ""
            raise ConfigurationError(
                f"timeouts: {times}{short} ({getattr(self, short):g} s) must not be longer than "
                f"{long} ({getattr(self, long):g} s)"
            )

    def beat(self, spec: JobSpec) -> float:
        """How often an agent of the job beats: twice in the time it is believed in without one."""
        return 0.5 * spec.beat_timeout

    def answer_to_join(self, most_nodes: int) -> float:
        """How long a session waits for the answer when all of the job's nodes may join at once.

        Twice what it should take and more: to give up too early makes the crowd only larger.
        """
        return self.answer + 2.5 * most_nodes * JOIN_COST

    def silence_of(self, spec: JobSpec) -> float:
        """How long a session believes in a silent service: not less than that in a node."""
        return max(self.silence, spec.beat_timeout)

    def least_leader_grace(self, most_nodes: int) -> float:
        """The shortest `JobSpec.leader_grace` in which all nodes of a job can be back."""
        return max(self.silence, self.retry_most + self.answer + most_nodes * JOIN_COST)

    def check(self, spec: JobSpec) -> None:
        """Raises ConfigurationError when the job's own times don't fit to these."""
        for name, value, least in (
            ("reconnect_grace", spec.reconnect_grace, 2 * self.retry_first),
            ("leader_grace", spec.leader_grace, self.least_leader_grace(spec.max_nodes)),
        ):
            if value < least:
                raise ConfigurationError(
                    f"the job's {name} is {value:g} s; with {spec.max_nodes} nodes it must be at "
                    f"least {least:.3g} s, or not all of them can be back in time"
                )
