"""What stands in etcd for plain torchrun, below /remesh/torchrun/v1/<run id>/.

    nodes/<id>     each agent's own, under its lease
    leader         the election key of the agent that conducts the rounds
    state/round    the last round
    state/ended    its number, once it is over, and why
    state/closed   the job is done: nobody may join any more

One line of JSON each. Unknown fields are ignored, so that a later version may add some.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from rendezvous.store import Change, Entry
from rendezvous.torchrun.rounds import NO_ROUND, End, Node, Round, View

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one run."""

    run_id: str

    @property
    def base(self) -> str:
        return f"/remesh/torchrun/v1/{quote(self.run_id, safe='')}/"

    @property
    def nodes(self) -> str:
        return f"{self.base}nodes/"

    @property
    def leader(self) -> str:
        return f"{self.base}leader"

    @property
    def state(self) -> str:
        return f"{self.base}state/"

    @property
    def round(self) -> str:
        return f"{self.state}round"

    @property
    def ended(self) -> str:
        return f"{self.state}ended"

    @property
    def closed(self) -> str:
        return f"{self.state}closed"

    def node(self, node: str) -> str:
        return f"{self.nodes}{node}"


@dataclass(slots=True)
class Table:
    """What the keys say, kept up to date by a watch."""

    keys: Keys
    nodes: dict[str, Node] = field(default_factory=dict)
    current: Round = NO_ROUND
    ended: End = field(default_factory=lambda: End(0, ""))
    closed: bool = False

    def reset(self, entries: Iterable[Entry]) -> None:
        self.nodes, self.current = {}, NO_ROUND
        self.ended, self.closed = End(0, ""), False
        for entry in entries:
            self._set(entry.key, entry)

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._set(change.key, change.entry)

    @property
    def over(self) -> bool:
        return self.ended.number >= self.current.number

    def view(self) -> View:
        return View(nodes=dict(self.nodes), current=self.current, over=self.over)

    def _set(self, key: str, entry: Entry | None) -> None:
        try:
            self._read(key, entry)
        except (ValueError, KeyError, TypeError) as error:
            log.error("%s is not ours, and ignored: %r", key, error)

    def _read(self, key: str, entry: Entry | None) -> None:
        if key.startswith(self.keys.nodes):
            node = key.removeprefix(self.keys.nodes)
            if entry is None:
                self.nodes.pop(node, None)
            else:
                self.nodes[node] = decode_node(node, entry)
        elif key == self.keys.round:
            self.current = decode_round(entry.value) if entry else NO_ROUND
        elif key == self.keys.ended:
            self.ended = decode_end(entry.value) if entry else End(0, "")
        elif key == self.keys.closed:
            self.closed = entry is not None


def encode(**fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def encode_node(*, joining: int, endpoint: str) -> bytes:
    return encode(joining=joining, endpoint=endpoint)


def decode_node(node: str, entry: Entry) -> Node:
    said = json.loads(entry.value)
    return Node(
        id=node,
        arrived=entry.create_revision,
        joining=int(said["joining"]),
        endpoint=str(said["endpoint"]),
    )


def encode_round(round: Round) -> bytes:
    return encode(
        number=round.number, members=round.members, store=round.store, reason=round.reason
    )


def decode_round(value: bytes) -> Round:
    said = json.loads(value)
    return Round(
        number=int(said["number"]),
        members=tuple(map(str, said["members"])),
        store=str(said["store"]),
        reason=str(said["reason"]),
    )


def encode_end(end: End) -> bytes:
    return encode(round=end.number, reason=end.reason)


def decode_end(value: bytes) -> End:
    said = json.loads(value)
    return End(int(said["round"]), str(said["reason"]))
