"""Who a session speaks for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field


def new_incarnation() -> int:
    """A number for this life of an agent, larger than those of its earlier lives.

    Milliseconds since 1970; a node whose clock went back is refused until its last life is lost.
    """
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """One life of one node.

    `slots` is how many ranks it runs; `host` the address by which other nodes reach it;
    `store_endpoint` (host:port) a socket its agent already listens on.
    """

    node: str
    slots: int
    host: str
    store_endpoint: str
    incarnation: int = field(default_factory=new_incarnation)
    labels: Mapping[str, str] = field(default_factory=dict)
