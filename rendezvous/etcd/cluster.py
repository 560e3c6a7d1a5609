"""Which cluster the endpoints of one list belong to, learnt from what they say. Pure.

An endpoint of another cluster among the list is a second store: whoever asks it first leads there,
while another leads here, and every job runs twice. So each says its cluster's id before it is asked
for anything, and every answer is compared.

The first to say it is not simply believed, for it may be the stranger. The *home* is the cluster
that more than half of the list belong to; or half of it and more, where the others can't be
reached; or the one whose own record, written by a leader, says so. The record is a part of every
snapshot: a cluster with another id that holds ours is ours, restored. So is the one that all of the
list belong to by now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

MARK = "/remesh/cluster"
"""The key that holds the id of the cluster it was written in."""


def encode_mark(cluster: int) -> bytes:
    return f"{cluster:x}".encode()


def decode_mark(value: bytes) -> int:
    """The id; 0 for what is none."""
    try:
        return int(value.decode(), 16) if len(value) <= 16 else 0
    except ValueError:
        return 0


class Cluster:
    """What the endpoints `addresses` have said of themselves. `home` is 0 until it is known."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = tuple(dict.fromkeys(addresses))
        self._said: dict[str, int] = {}
        """By endpoint: the id that it said last."""
        self._marks: dict[str, int] = {}
        """By endpoint: the id that the record in its store names; 0 where there is none."""
        self.home = 0
        """Read by other threads as well."""

    def hear(self, address: str, cluster: int) -> None:
        """The endpoint has said its cluster's id."""
        if self._said.get(address) != cluster:
            self._marks.pop(address, None)
        self._said[address] = cluster
        if address not in self._addresses:
            return  # the cluster itself has named it, and has no vote about itself
        said, votes = Counter(self._listed()).most_common(1)[0]
        most = 2 * votes > len(self._addresses)
        if votes == len(self._addresses) or (most and not self.home):
            self.home = said

    def read(self, address: str, mark: int) -> None:
        """The endpoint's store has been asked for its record."""
        self._marks[address] = mark
        said = self._said[address]
        if self.home and mark == self.home:
            self.home = said

    def settle(self) -> None:
        """All that can be reached have spoken: decide who is at home, if that can be decided."""
        if self.home:
            return
        marked = {said for a, said in self._said.items() if self._marks.get(a) == said}
        listed = self._listed()
        if len(marked) == 1:
            self.home = marked.pop()
        elif not marked and len(set(listed)) == 1 and 2 * len(listed) >= len(self._addresses):
            self.home = listed[0]

    def at_home(self, address: str) -> bool:
        return self.home != 0 and self._said.get(address) == self.home

    def is_open(self, address: str) -> bool:
        """Whether the record in its store might tell what its id alone doesn't."""
        return address in self._said and not self.at_home(address) and address not in self._marks

    def refusal(self, address: str) -> str:
        """Why the endpoint is not to be used, though it answers."""
        said = self._said.get(address, 0)
        if self.home:
            return (
                f"it belongs to another etcd cluster ({said:x}) than the others ({self.home:x}): "
                "take it off the list of endpoints"
            )
        others = sorted(f"{a} to {c:x}" for a, c in self._said.items() if c != said)
        if others:
            return (
                f"it belongs to etcd cluster {said:x}, and {', '.join(others)}: name the endpoints "
                "of one cluster"
            )
        need = (len(self._addresses) + 1) // 2
        return (
            f"{len(self._listed())} of {len(self._addresses)} endpoints answer; {need} are needed "
            "to know which cluster is meant"
        )

    def _listed(self) -> list[int]:
        return [self._said[a] for a in self._addresses if a in self._said]
