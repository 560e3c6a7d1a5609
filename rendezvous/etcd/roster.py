"""The endpoints of one cluster: those that were given, and those that it has named since.

One is used until it fails; then the next one is. What was given stays in the list for good: who
gave it may have had a reason. What was learnt stays for as long as the cluster names it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from rendezvous.etcd.endpoint import Endpoint


class Roster:
    """`given` must not be empty."""

    def __init__(self, given: Sequence[Endpoint]) -> None:
        self.given = tuple(given)
        self._learnt: dict[str, Endpoint] = {}
        """By address."""
        self.all = self.given
        """In the order in which they are used. Read by other threads as well."""
        self._current = random.choice(self.given)
        self._gone: list[Endpoint] = []
        """No longer in the list; calls on them may still be on their way."""

    @property
    def current(self) -> Endpoint:
        return self._current

    def addresses(self) -> tuple[str, ...]:
        """Beginning with the one in use."""
        everybody = self.all
        at = everybody.index(self._current) if self._current in everybody else 0
        return tuple(one.address for one in (*everybody[at:], *everybody[:at]))

    def leave(self, failed: Endpoint) -> None:
        """Use the next endpoint, unless another call has seen to it already."""
        if self._current is failed:
            self._current = self.all[(self.all.index(failed) + 1) % len(self.all)]

    @property
    def learnt(self) -> Mapping[str, Endpoint]:
        return self._learnt

    def learn(self, endpoints: Mapping[str, Endpoint]) -> list[Endpoint]:
        """These, by address, were learnt, and no others. Those to be closed: they went the last
        time."""
        closing, self._gone = self._gone, []
        self._gone += [one for a, one in self._learnt.items() if a not in endpoints]
        for one in self._gone:
            self.leave(one)
        self._learnt = dict(endpoints)
        self.all = (*self.given, *self._learnt.values())
        if self._current not in self.all:
            self._current = self.given[0]
        return closing

    async def close(self) -> None:
        for one in (*self.all, *self._gone):
            await one.close()
