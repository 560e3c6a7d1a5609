"""How long the client waits, and for what."""

from __future__ import annotations

from dataclasses import dataclass

from rendezvous.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """All in seconds. Raises ConfigurationError unless 0 < connect ≤ attempt ≤ call."""

    connect: float = 1.0
    """For a connection to one endpoint."""
    attempt: float = 1.5
    """For one endpoint's answer; then the next endpoint is asked."""
    call: float = 5.0
    """For all attempts of one call together."""

    @classmethod
    def of(cls, attempt: float) -> Deadlines:
        """All of them in the usual proportion to `attempt`."""
        usual = cls()
        scale = attempt / usual.attempt
        return cls(connect=usual.connect * scale, attempt=attempt, call=usual.call * scale)

    @property
    def no_connection(self) -> str:
        """What to say of an endpoint that can't be reached in time."""
        return (
            f"no connection within {self.connect:.3g} s (if the way there is slow, "
            f"--store-timeout {4 * self.attempt:.3g})"
        )

    def __post_init__(self) -> None:
        if not 0 < self.connect <= self.attempt <= self.call:
            raise ConfigurationError(
                f"etcd: deadlines must be 0 < connect ({self.connect:g} s) ≤ attempt "
                f"({self.attempt:g} s) ≤ call ({self.call:g} s)"
            )
