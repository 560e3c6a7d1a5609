"""How long a lease can be relied on, told from this side of the wire. Pure: time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

DRIFT = 0.1
RENEWALS = 3


@dataclass(frozen=True, slots=True)
class Tenure:
    """A lease of `ttl` seconds, last asked for at `asked`.

    The server counts from when it was asked at the earliest, so counting from `asked` ends
    before the server does; DRIFT is how much faster than ours its clock may run.
    """

    asked: float
    ttl: float

    @property
    def ends(self) -> float:
        return self.asked + self.ttl * (1 - DRIFT)

    @property
    def renew_at(self) -> float:
        return self.asked + self.ttl / RENEWALS

    def held(self, now: float) -> bool:
        return now < self.ends
