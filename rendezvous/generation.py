"""One agreed membership: who trains together, in what order, and why it began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rendezvous.bounds import MAX_COUNT, MAX_LABEL, MAX_LABELS, MAX_NODES, MAX_SLOTS
from rendezvous.outside.fields import Fields
from rendezvous.outside.names import NODE

MAX_ADDRESS = 264
"""Characters of HOST:PORT: a host's name has at most 253."""
MAX_SECRET = 128
"""Characters of a generation's secret; `secrets.token_hex` makes 64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One node's place in a generation.

    `incarnation` tells two lives of one node apart; `slots` is how many ranks it can run;
    `store_endpoint` (host:port) is a socket its agent already listens on, where the
    generation's store is served if this node comes first.
    """

    node: str
    incarnation: int
    slots: int
    host: str
    store_endpoint: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict; empty labels are left out, for the sake of ten thousand members."""
        plain: dict[str, Any] = {
            "node": self.node,
            "incarnation": self.incarnation,
            "slots": self.slots,
            "host": self.host,
            "store_endpoint": self.store_endpoint,
        }
        if self.labels:
            plain["labels"] = dict(self.labels)
        return plain

    @classmethod
    def read(cls, fields: Fields) -> Member:
        """Reads what `to_dict` wrote. Raises ValueError."""
        return cls(
            node=fields.name("node", NODE),
            incarnation=fields.whole("incarnation"),
            slots=fields.whole("slots", 1, MAX_SLOTS),
            host=fields.text("host", MAX_ADDRESS),
            store_endpoint=fields.text("store_endpoint", MAX_ADDRESS),
            labels=fields.texts("labels", MAX_LABELS, MAX_LABEL),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """Numbered 1, 2, 3 … and never reused. The order of `members` is the order of ranks.

    `secret` is known to the nodes of the job and to nobody else: by it they know each other. It is
    another in every generation, and empty where the service is too old to give one.
    """

    number: int
    members: tuple[Member, ...]
    reason: str
    restarts: int = 0
    secret: str = field(default="", repr=False)
    _places: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places = {member.node: place for place, member in enumerate(self.members)}
        object.__setattr__(self, "_places", places)

    @property
    def world_size(self) -> int:
        return sum(member.slots for member in self.members)

    @property
    def store_endpoint(self) -> str:
        return self.members[0].store_endpoint

    def group_rank(self, node: str) -> int | None:
        """The node's position, or None when it is not in this generation."""
        return self._places.get(node)

    def first_rank(self, node: str) -> int | None:
        """The global rank of the node's slot 0, or None when it is not in this generation."""
        first = 0
        for member in self.members:
            if member.node == node:
                return first
            first += member.slots
        return None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict, for the store alone: the secret is in it."""
        plain: dict[str, Any] = {
            "number": self.number,
            "reason": self.reason,
            "restarts": self.restarts,
            "members": [member.to_dict() for member in self.members],
        }
        if self.secret:
            plain["secret"] = self.secret
        return plain

    @classmethod
    def read(cls, fields: Fields) -> Generation:
        """Reads what `to_dict` wrote. Raises ValueError."""
        members = tuple(Member.read(member) for member in fields.each("members", MAX_NODES))
        if not members or len({member.node for member in members}) < len(members):
            raise ValueError(f"{fields.where}: it has no members, or one of them twice")
        return cls(
            number=fields.whole("number", 1),
            reason=fields.text("reason"),
            restarts=fields.whole("restarts", 0, MAX_COUNT, default=0),
            secret=fields.text("secret", MAX_SECRET, default=""),
            members=members,
        )
